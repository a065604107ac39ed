//! SLSA provenance v1 (slsa.dev/spec/v1.0/provenance) from the variables of a pipeline.
//!
//! Whoever controls the job controls the variables and the key: this is Build L1, and names
//! a builder of its own for it.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::variables;

/// The type of the predicate.
pub const TYPE: &str = "https://slsa.dev/provenance/v1";
/// The builder: a job that states about itself what built the image.
const BUILDER: &str = "https://qyvol.dev/builder/ci-env/v1";
const GITHUB_BUILD: &str = "https://actions.github.io/buildtypes/workflow/v1";
const GITLAB_BUILD: &str = "https://qyvol.dev/buildtypes/gitlab-ci/v1";

/// Looks up a variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Failure>;

/// What the environment says.
struct Build {
    kind: &'static str,
    repository: String,
    reference: String,
    commit: String,
    path: String,
    run: String,
    internal: Value,
}

/// The predicate that the environment of this process gives.
pub fn from_environment() -> Result<Vec<u8>, Failure> {
    let predicate = predicate(&variables::text)?;
    serde_json::to_vec(&predicate).map_err(|e| Failure::new(e.to_string()))
}

fn predicate(get: Lookup<'_>) -> Result<Value, Failure> {
    let is_set = |name: &str| Ok::<_, Failure>(get(name)?.is_some_and(|value| value == "true"));
    let build = if is_set("GITHUB_ACTIONS")? {
        github(get)?
    } else if is_set("GITLAB_CI")? {
        gitlab(get)?
    } else {
        return Err(Failure::usage(
            "--provenance needs the variables of a pipeline: neither GITHUB_ACTIONS nor GITLAB_CI is `true`",
        )
        .hint("elsewhere, `--type https://slsa.dev/provenance/v1 --predicate FILE` attests a provenance from a file"));
    };
    let source = format!("git+{}@{}", build.repository, build.reference);
    Ok(json!({
        "buildDefinition": {
            "buildType": build.kind,
            "externalParameters": {
                "workflow": { "ref": build.reference, "repository": build.repository, "path": build.path },
            },
            "internalParameters": build.internal,
            "resolvedDependencies": [{ "uri": source, "digest": { "gitCommit": build.commit } }],
        },
        "runDetails": {
            "builder": { "id": BUILDER },
            "metadata": { "invocationId": build.run },
        },
    }))
}

/// The values of variables, all of which must be set.
fn required<const N: usize>(get: Lookup<'_>, names: [&str; N]) -> Result<[String; N], Failure> {
    let (mut values, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match get(name)? {
            Some(value) => values.push(value),
            None => missing.push(name),
        }
    }
    values.try_into().map_err(|_| {
        Failure::usage(format!(
            "--provenance needs variables that are not set: {}",
            missing.join(", ")
        ))
    })
}

fn github(get: Lookup<'_>) -> Result<Build, Failure> {
    let names = [
        "GITHUB_SERVER_URL",
        "GITHUB_REPOSITORY",
        "GITHUB_REF",
        "GITHUB_SHA",
        "GITHUB_WORKFLOW_REF",
        "GITHUB_RUN_ID",
        "GITHUB_RUN_ATTEMPT",
        "GITHUB_EVENT_NAME",
    ];
    let [server, name, reference, commit, workflow, run, attempt, event] = required(get, names)?;
    // OWNER/REPOSITORY/PATH@REF
    let path = workflow.strip_prefix(&format!("{name}/"));
    let path = path.and_then(|rest| rest.rsplit_once('@')).map(|(path, _)| path);
    let Some(path) = path.map(str::to_string) else {
        return Err(Failure::usage(format!(
            "GITHUB_WORKFLOW_REF is not of the form {}/PATH@REF",
            qyvol::types::escape(&name)
        )));
    };
    let repository = format!("{server}/{name}");
    Ok(Build {
        kind: GITHUB_BUILD,
        run: format!("{repository}/actions/runs/{run}/attempts/{attempt}"),
        repository,
        reference,
        commit,
        path,
        internal: json!({ "github": { "event_name": event } }),
    })
}

fn gitlab(get: Lookup<'_>) -> Result<Build, Failure> {
    let [repository, commit, run] = required(get, ["CI_PROJECT_URL", "CI_COMMIT_SHA", "CI_JOB_URL"])?;
    // A merge request's pipeline has no branch: what it builds is not on the branch yet.
    let reference = match (
        get("CI_COMMIT_TAG")?,
        get("CI_COMMIT_BRANCH")?,
        get("CI_MERGE_REQUEST_REF_PATH")?,
    ) {
        (Some(tag), ..) => format!("refs/tags/{tag}"),
        (None, Some(branch), _) => format!("refs/heads/{branch}"),
        (None, None, Some(path)) => path,
        (None, None, None) => {
            return Err(Failure::usage(
                "--provenance needs variables that are not set: CI_COMMIT_TAG, CI_COMMIT_BRANCH or CI_MERGE_REQUEST_REF_PATH",
            ));
        }
    };
    Ok(Build {
        kind: GITLAB_BUILD,
        repository,
        reference,
        commit,
        path: get("CI_CONFIG_PATH")?.unwrap_or_else(|| ".gitlab-ci.yml".to_string()),
        run,
        internal: json!({}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Value, Failure> {
        predicate(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| value.to_string()))
        })
    }

    const GITHUB: &[(&str, &str)] = &[
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "acme/app"),
        ("GITHUB_REF", "refs/tags/v1.0.0"),
        ("GITHUB_SHA", "0123456789012345678901234567890123456789"),
        (
            "GITHUB_WORKFLOW_REF",
            "acme/app/.github/workflows/release.yml@refs/tags/v1.0.0",
        ),
        ("GITHUB_RUN_ID", "7"),
        ("GITHUB_RUN_ATTEMPT", "2"),
        ("GITHUB_EVENT_NAME", "push"),
    ];

    // [SIGN-063]
    #[test]
    fn provenance_says_what_the_variables_of_github_say() {
        let found = of(GITHUB).unwrap();
        let workflow = &found["buildDefinition"]["externalParameters"]["workflow"];
        assert_eq!(workflow["repository"], "https://github.com/acme/app");
        assert_eq!(workflow["ref"], "refs/tags/v1.0.0");
        assert_eq!(workflow["path"], ".github/workflows/release.yml");
        let source = &found["buildDefinition"]["resolvedDependencies"][0];
        assert_eq!(source["uri"], "git+https://github.com/acme/app@refs/tags/v1.0.0");
        assert_eq!(
            source["digest"]["gitCommit"],
            "0123456789012345678901234567890123456789"
        );
        assert_eq!(found["runDetails"]["builder"]["id"], BUILDER);
        assert_eq!(
            found["runDetails"]["metadata"]["invocationId"],
            "https://github.com/acme/app/actions/runs/7/attempts/2"
        );
    }

    // [SIGN-063]
    #[test]
    fn merge_request_does_not_pass_for_its_branch() {
        let mut variables = vec![
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_URL", "https://gitlab.com/acme/app"),
            ("CI_COMMIT_SHA", "00"),
            ("CI_JOB_URL", "https://gitlab.com/acme/app/-/jobs/1"),
            ("CI_MERGE_REQUEST_REF_PATH", "refs/merge-requests/1/head"),
        ];
        let reference = |variables: &[(&str, &str)]| {
            let found = of(variables).unwrap();
            found["buildDefinition"]["externalParameters"]["workflow"]["ref"].clone()
        };
        assert_eq!(reference(&variables), "refs/merge-requests/1/head");
        variables.push(("CI_COMMIT_BRANCH", "main"));
        assert_eq!(reference(&variables), "refs/heads/main");
        variables.push(("CI_COMMIT_TAG", "v1"));
        assert_eq!(reference(&variables), "refs/tags/v1");
    }

    // [SIGN-063]
    #[test]
    fn variables_that_are_missing_are_named() {
        let without = |name: &str| {
            let rest: Vec<_> = GITHUB.iter().filter(|(known, _)| *known != name).copied().collect();
            of(&rest).unwrap_err().message
        };
        for (name, _) in GITHUB {
            assert!(without(name).contains(name), "{}", without(name));
        }
        let gitlab = of(&[("GITLAB_CI", "true"), ("CI_COMMIT_SHA", "00")]).unwrap_err();
        assert!(
            gitlab.message.contains("CI_PROJECT_URL, CI_JOB_URL"),
            "{}",
            gitlab.message
        );
        assert!(of(&[]).unwrap_err().message.contains("GITHUB_ACTIONS"));
    }
}
