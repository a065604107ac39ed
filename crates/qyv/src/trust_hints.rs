//! What to do next if trust refuses. Each printed command works in its situation, once a word
//! in capitals is replaced.

use qyvol::trust::{Cause, Form, Identity, Refusal, Report, Verdict, VerifyError};
use qyvol::types::escape;

/// A word, quoted for a shell.
pub fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@+".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_string();
    }
    format!("'{}'", escape(text).to_string().replace('\'', "'\\''"))
}

pub fn trust_hints(target: &str, error: &VerifyError) -> Vec<String> {
    let report = error.report();
    // The signer's store has the image under its own name, not a registry's.
    let target = match &report.asked {
        Some(_) => word(&format!("{}:{}", report.application, report.version)),
        None => word(target),
    };
    match error.refusal() {
        Refusal::Unsigned => vec![
            "ask the publisher for a signed release; tools that don't copy referrers drop signatures".to_string(),
            format!("if it is yours: `qyv sign {target}` on the machine that built it, then publish it again"),
        ],
        Refusal::NoRule | Refusal::NoTrustedKey => untrusted(error.refusal(), report),
        Refusal::BadSignature | Refusal::Malformed => vec!["get it again from its publisher".to_string()],
        Refusal::Limit if report.asked.is_none() => {
            vec![format!(
                "`qyv clean {target}` removes signatures that no trusted key has made"
            )]
        }
        Refusal::Limit => vec!["ask the publisher for the image without the signatures of others".to_string()],
        Refusal::Threshold => short(&target, report),
        Refusal::Attestation => vec![
            "ask the publisher for that attestation; tools that don't copy referrers drop attestations".to_string(),
        ],
        Refusal::Expired => late(&target, report),
        Refusal::Revoked => {
            vec!["get a release that is not revoked (`qyv trust show` lists what is revoked)".to_string()]
        }
        Refusal::Rollback => older(report),
        Refusal::Identity => other_name(report),
        _ => Vec::new(),
    }
}

/// The fingerprint that the image's signatures name.
fn signer(report: &Report) -> Option<&str> {
    let mut unknown = report.signatures.iter().filter(|s| s.verdict == Verdict::UnknownKey);
    unknown.find_map(|s| s.fingerprint.as_deref())
}

fn untrusted(refusal: Refusal, report: &Report) -> Vec<String> {
    let by = signer(report).map_or_else(String::new, |f| format!("; it names the key {f}"));
    if report.key_given.is_some() {
        return vec![format!("it may be signed by another of the publisher's keys{by}")];
    }
    if report.followed {
        return vec![publishers(by)];
    }
    if let (Some(rule), Some(found)) = (
        &report.rule,
        report.signatures.iter().find(|s| s.verdict == Verdict::OtherForm),
    ) && found.form == Some(Form::Cosign)
    {
        return vec![format!(
            "where cosign's signatures will do, write `form: cosign` in the requirement of the rule {} that names the key {}",
            rule.scope,
            escape(found.key.as_deref().unwrap_or_default())
        )];
    }
    let scope = match &report.rule {
        Some(rule) if refusal == Refusal::NoTrustedKey => rule.scope.clone(),
        _ => report.scope.clone(),
    };
    let moving = match (&report.rule, report.asked.as_deref().and_then(tag)) {
        (None, Some(tag)) if tag != report.version => " --identity repository",
        _ => "",
    };
    let lacking = report.requirements.iter().find(|r| r.have < r.threshold);
    let role = match lacking.filter(|r| r.role != "release") {
        Some(lacking) => format!(" --role {}", lacking.role),
        None => String::new(),
    };
    let pin = report.asked.as_deref().filter(|_| refusal == Refusal::NoRule).map(|asked| {
        format!(
            "if the image comes with its publisher's key: `qyv trust pin {}` shows the fingerprint to compare, and adds the rule",
            word(asked)
        )
    });
    let first = [format!(
        "with the publisher's public key in PUBLISHER.pub: `qyv trust add {} --key PUBLISHER.pub{role}{moving}`{by}",
        word(&scope)
    )];
    let last =
        ["or, for one `run` or `verify`, trust that key in place of the policy: put --key PUBLISHER.pub before the target".to_string()];
    first.into_iter().chain(pin).chain(last).collect()
}

/// If the policy is published, no command of this host changes its rules.
fn publishers(by: String) -> String {
    format!(
        "this policy is published as signed documents: its publisher adds the rule or the key{by}; then `qyv trust pull` fetches it"
    )
}

/// The tag of a name that was asked for without a digest.
fn tag(asked: &str) -> Option<&str> {
    let last = asked.rsplit('/').next()?;
    last.split_once(':').map(|(_, tag)| tag).filter(|_| !last.contains('@'))
}

fn short(target: &str, report: &Report) -> Vec<String> {
    let lacking = report.requirements.iter().filter(|r| r.have < r.threshold);
    let line = |r: &qyvol::trust::RequirementReport| {
        let keys: Vec<String> = r.keys.iter().map(|k| escape(k).to_string()).collect();
        if keys.len() < r.threshold && report.followed {
            return publishers(String::new());
        }
        if keys.len() < r.threshold {
            let role = match r.role.as_str() {
                "release" => String::new(),
                role => format!(" --role {role}"),
            };
            let scope = report.rule.as_ref().map_or(&report.scope, |rule| &rule.scope);
            return format!(
                "the keys that the rule still trusts can't sign it as {}: add the publisher's new key, \
                 `qyv trust add {} --key NEW.pub{role}`",
                r.role,
                word(scope)
            );
        }
        format!(
            "{} more of the keys {} must sign it as {}: `qyv sign {target} --role {} --key KEY`",
            r.threshold - r.have,
            keys.join(", "),
            r.role,
            r.role
        )
    };
    lacking.map(line).collect()
}

fn late(target: &str, report: &Report) -> Vec<String> {
    let cause = report.signatures.iter().find_map(|s| s.cause);
    let hint = match cause {
        Some(Cause::Undated) => format!(
            "the publisher dates signatures with SOURCE_DATE_EPOCH at the build, or signs again: `qyv sign {target}` \
             records the time"
        ),
        Some(Cause::MaxAge) => {
            format!("get a newer release; or the publisher signs this one again: `qyv sign {target}`")
        }
        Some(Cause::Statement) => "get a newer release".to_string(),
        Some(Cause::Key) => "get a release signed with the publisher's current key".to_string(),
        _ => "check the clock of this host and of the signer".to_string(),
    };
    vec![hint]
}

fn older(report: &Report) -> Vec<String> {
    if report.signatures.iter().any(|s| s.cause == Some(Cause::Floor)) {
        return vec!["get a newer release (`qyv trust show` lists the floors)".to_string()];
    }
    match &report.asked {
        Some(_) => vec![format!(
            "this image is older than one accepted before under the same name; to use it all the same, name it by its digest: {}@sha256:DIGEST",
            report.scope
        )],
        None => vec!["get the newer release".to_string()],
    }
}

fn other_name(report: &Report) -> Vec<String> {
    let found = report.signatures.iter().find(|s| s.verdict == Verdict::Identity);
    let Some((found, statement)) = found.and_then(|s| s.statement.as_ref().map(|statement| (s, statement))) else {
        return Vec::new();
    };
    let (Some(_), Some(rule)) = (&report.asked, &report.rule) else {
        return vec!["get it again from its publisher".to_string()];
    };
    let repository = rule.repository.as_deref().unwrap_or_default();
    let name = escape(&statement.name).to_string();
    let trailing = rule.names == qyvol::trust::Names::Trailing;
    let fits = repository == name || trailing && repository.ends_with(&format!("/{name}"));
    let mut hints = Vec::new();
    if fits {
        hints.push(format!(
            "ask for the signed version: {}:{}",
            report.scope,
            escape(&statement.version)
        ));
    } else {
        hints.push(format!(
            "the publisher builds with `name: {repository}`, or pushes to {} {name}",
            if trailing {
                "a repository that ends in"
            } else {
                "the repository"
            }
        ));
    }
    if report.key_given.is_some() || report.followed {
        return hints;
    }
    let key = found.key.as_deref().map_or_else(|| "KEY".to_string(), word);
    let identity = if fits { Identity::Repository } else { Identity::Any };
    let (option, means) = match identity {
        Identity::Repository => ("repository", "any tag of it"),
        _ => ("any", "any name that this key signs"),
    };
    hints.push(format!(
        "or accept {means}, for all of {}: `qyv trust add {} --key {key} --identity {option}`",
        rule.scope,
        word(&rule.scope)
    ));
    hints
}
