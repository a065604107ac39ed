//! Policies that commands change.

use super::*;
use crate::{EditedPolicy, Form, Identity, PolicyEdit, PolicyEditError, PublicKey, Scope, change};

fn add(scope: &str, name: &str, key: &PrivateKey) -> PolicyEdit {
    PolicyEdit::Add {
        scope: scope.parse().unwrap(),
        name: name.to_string(),
        key: key.public().clone(),
        role: "release".to_string(),
        form: Form::Qyvol,
        threshold: None,
        identity: None,
    }
}

fn revocation(key: &PrivateKey) -> PolicyEdit {
    PolicyEdit::RevokeKey {
        id: key.public().id(),
        keep: Vec::new(),
    }
}

fn pem(key: &PublicKey) -> String {
    key.to_pem().lines().map(|line| format!("      {line}\n")).collect()
}

fn ok(text: &str, what: &PolicyEdit) -> EditedPolicy {
    let changed = change(Some(text), what).unwrap();
    assert_eq!(TrustPolicy::parse(&changed.text).unwrap(), changed.policy);
    changed
}

fn why(text: &str, what: &PolicyEdit) -> String {
    change(Some(text), what).unwrap_err().to_string()
}

// [SIGN-034]
#[test]
fn first_key_begins_a_policy_that_accepts_its_images() {
    let key = key();
    let begun = change(None, &add("r.example/acme/**", "acme", &key)).unwrap();
    assert_eq!(
        begun.text,
        format!(
            "# What this machine trusts. See spec/signing.md.\nversion: 1\nserial: 1\ndefault: reject\nkeys:\n  \
             acme:\n    pem: |\n{}rules:\n  - scope: \"r.example/acme/**\"\n    require: [{{ role: release, keys: \
             [acme], threshold: 1 }}]\n    identity: exact\n",
            pem(key.public())
        )
    );
    asked_for(&begun.text, &key, "r.example/acme/app:1.0.0").unwrap();
    assert_eq!(begun.notes.len(), 3, "{:?}", begun.notes);
}

// [SIGN-034]
#[test]
fn change_keeps_comments_and_order_and_raises_the_serial() {
    let (a, b) = (key(), key());
    let text = format!(
        "# ours\nversion: 1\nserial: 41 # count\nrules: # first\n  # files\n  - scope: \"file:\" # all\n    require:\n      \
         - role: release # r\n        keys: [a] # who\nkeys:\n  # since May\n  a:\n    pem: |\n{}\n# end\n",
        pem(a.public())
    );
    let changed = ok(&text, &add("file:", "b", &b));
    let expected = text
        .replace("serial: 41 ", "serial: 42 ")
        .replace("keys: [a] #", "keys: [a, b] #")
        .replace("\n\n# end", &format!("\n  b:\n    pem: |\n{}\n# end", pem(b.public())));
    assert_eq!(changed.text, expected);
    let changed = ok(&changed.text, &add("r.example/**", "other", &b));
    assert!(
        changed
            .text
            .contains("\n  - scope: \"r.example/**\"\n    require: [{ role: release, keys: [b]")
    );
    // Nothing to do is nothing done.
    let again = ok(&changed.text, &add("r.example/**", "other", &b));
    assert_eq!((again.text, again.notes.len()), (changed.text, 0));
}

// [SIGN-034]
#[test]
fn moving_tags_are_accepted_with_rollback_denied() {
    let key = key();
    let mut what = add("r.example/**", "k", &key);
    let PolicyEdit::Add { identity, .. } = &mut what else {
        panic!()
    };
    *identity = Some(Identity::Repository);
    let begun = change(None, &what).unwrap();
    assert!(
        begun.text.contains("    identity: repository\n    rollback: deny\n"),
        "{}",
        begun.text
    );
    // So too where the rule is there.
    let exact = change(None, &add("r.example/**", "k", &key)).unwrap();
    let changed = ok(&exact.text, &what);
    assert!(
        changed.text.contains("    identity: repository\n    rollback: deny\n"),
        "{}",
        changed.text
    );
    asked_for(&changed.text, &key, "r.example/acme/app:latest").unwrap();
}

// [SIGN-034]
#[test]
fn revoked_key_or_image_is_refused_whatever_form_the_policy_has() {
    let (key, other) = (key(), key());
    let text = policy_text(&[&key], 1);
    let json = {
        let one_line = key.public().to_pem().replace('\n', "\\n");
        format!(
            "{{\"version\": 1, \"keys\": {{\"k0\": {{\"pem\": \"{one_line}\"}}}}, \"rules\": [{{\"scope\": \"file:\", \
             \"require\": [{{\"role\": \"release\", \"keys\": [\"k0\"]}}]}}]}}"
        )
    };
    let envelope = signed(&key, &statement());
    for text in [
        text.clone(),
        text.replace("rules:", "revoked: { keys: [], images: [] }\nrules:"),
        text.replace("rules:", "revoked:\n  images:\n    - \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\nrules:"),
        json,
    ] {
        judge(&TrustPolicy::parse(&text).unwrap(), std::slice::from_ref(&envelope)).unwrap();
        let by_key = ok(&text, &revocation(&key));
        assert_eq!(refusal(&by_key.policy, &envelope), Refusal::Revoked);
        let image = ok(&by_key.text, &PolicyEdit::RevokeImage(image().digest));
        let stranger = ok(&image.text, &revocation(&other));
        assert!(stranger.text.contains(&other.public().fingerprint()));
        assert_eq!(stranger.policy.serial(), stranger.policy.serial());
        // A revoked key is not added again.
        assert!(why(&stranger.text, &add("file:x", "k", &key)).contains("revokes the key"));
        let added = ok(&text, &add("file:x", "k1", &other));
        assert_eq!(added.policy.rules().len(), 2);
    }
}

// [SIGN-034]
#[test]
fn keys_and_rules_are_removed_alone() {
    let (a, b) = (key(), key());
    let text = policy_text(&[&a, &b], 1);
    let file = Scope::files();
    let remove = |key: Option<&PrivateKey>| PolicyEdit::Remove {
        scope: file.clone(),
        key: key.map(|k| k.public().id()),
    };
    let one = ok(&text, &remove(Some(&a)));
    assert!(one.text.contains("keys: [k1]"), "{}", one.text);
    assert_eq!(refusal(&one.policy, &signed(&a, &statement())), Refusal::NoTrustedKey);
    // The last key takes its rule along.
    assert!(ok(&one.text, &remove(Some(&b))).policy.rules().is_empty());
    assert!(ok(&text, &remove(None)).policy.rules().is_empty());
    assert!(why(&one.text, &remove(Some(&a))).contains("does not name this key"));
    let two = policy_text(&[&a, &b], 2);
    assert!(why(&two, &remove(Some(&a))).contains("lower its threshold"));
    // What decides afterwards is said.
    let wide = ok(&text, &add("file:acme/**", "b", &b));
    let narrow = PolicyEdit::Remove {
        scope: "file:acme/**".parse().unwrap(),
        key: None,
    };
    let notes = ok(&wide.text, &narrow).notes.join("\n");
    assert!(notes.contains("decided by the rule file:"), "{notes}");
}

// [SIGN-034]
#[test]
fn edit_that_would_change_the_meaning_is_refused() {
    let (a, b) = (key(), key());
    // A comment behind a list's last element hides what is appended.
    let text = policy_text(&[&a], 1).replace("keys: [k0]", "keys: [\n        k0 # the last\n      ]");
    TrustPolicy::parse(&text).unwrap();
    let error = change(Some(&text), &add("file:", "b", &b)).unwrap_err();
    assert!(matches!(error, PolicyEditError::Unsupported(_)), "{error}");
    assert!(matches!(
        change(Some("version: 2\n"), &add("file:", "b", &b)),
        Err(PolicyEditError::Policy(_))
    ));
}

// [SIGN-034] [SIGN-038]
#[test]
fn cosigns_form_is_a_requirement_of_its_own() {
    let (own, theirs) = (key(), key_of(KeyType::EcdsaP256));
    let mut in_form = add("file:", "theirs", &theirs);
    let PolicyEdit::Add { form, .. } = &mut in_form else {
        unreachable!()
    };
    *form = Form::Cosign;
    let first = change(None, &in_form).unwrap();
    assert!(
        first
            .text
            .contains("{ form: cosign, role: release, keys: [theirs], threshold: 1 }"),
        "{}",
        first.text
    );
    // Both are needed then.
    let both = change(Some(&first.text), &add("file:", "own", &own)).unwrap();
    assert_eq!(both.policy.rules()[0].require.len(), 2);
    assert_eq!(change(Some(&both.text), &in_form).unwrap().notes, Vec::<String>::new());
    let mut wrong = add("file:", "own", &own);
    if let PolicyEdit::Add { form, .. } = &mut wrong {
        *form = Form::Cosign;
    }
    let refused = change(None, &wrong).unwrap_err();
    assert!(refused.to_string().contains("ECDSA P-256"), "{refused}");
}

// [SIGN-011]
#[test]
fn role_that_is_almost_a_known_one_is_added_with_a_warning() {
    let key = key();
    let warned = |text: Option<&str>, role: &str| {
        let mut what = add("r.example/acme/**", "acme", &key);
        let PolicyEdit::Add { role: asked, .. } = &mut what else {
            unreachable!()
        };
        *asked = role.to_string();
        change(text, &what).unwrap()
    };
    for (role, near) in [
        ("relaese", "`release`"),
        ("aprove", "`approve`"),
        ("rebuild", "`rebuilt`"),
    ] {
        let warnings = warned(None, role).warnings;
        assert!(
            matches!(&warnings[..], [one] if one.contains(near)),
            "{role}: {warnings:?}"
        );
    }
    for role in ["release", "approve", "rebuilt", "audit"] {
        assert_eq!(warned(None, role).warnings, Vec::<String>::new(), "{role}");
    }
    // Once it is in use, it is meant.
    let begun = warned(None, "rebuild");
    assert_eq!(warned(Some(&begun.text), "rebuild").warnings, Vec::<String>::new());
}
