//! Compiling ahead of a run, and its bounds.

use crate::support::User;

// [RUN-023]
#[test]
fn what_was_compiled_ahead_is_not_compiled_by_the_run() {
    let user = User::new();
    let app = user.built("app", "");
    let done = user.qyv(&["compile", &app]).expect(0);
    assert_eq!(done.out, "");
    let code = || {
        let stored = user.stored().into_iter();
        stored.filter(|path| path.to_string_lossy().contains("/code/")).count()
    };
    assert_eq!(code(), 2, "code and its record");
    // With a limit that no compilation keeps: there is none to do.
    user.qyv(&["compile", "--max-memory", "1MB", &app]).expect(0);
    user.qyv(&["run", &app, "--", "exit", "3"]).expect(3);
    assert_eq!(code(), 2);
    user.qyv(&["compile", "app/app.qyv"]).expect(2);
    user.qyv(&["compile", "--max-memory", "much", &app]).expect(2);
}

// [RUN-023]
#[test]
fn compilation_that_takes_more_than_its_limits_is_ended_and_leaves_nothing() {
    let user = User::new();
    let app = user.built("app", "");
    let done = user.qyv(&["compile", "--max-memory", "4MiB", &app]).expect(1);
    assert!(
        done.err.contains("memory") || done.err.contains("compile"),
        "{}",
        done.err
    );
    let done = user.qyv(&["compile", "--max-seconds", "0", &app]).expect(1);
    assert!(done.err.contains("0 s of processor time"), "{}", done.err);
    assert!(
        !user
            .stored()
            .iter()
            .any(|path| path.to_string_lossy().contains("/code/"))
    );
    user.qyv(&["run", &app, "--", "exit", "3"]).expect(3);
}

#[test]
fn refused_image_is_not_compiled() {
    let user = User::new();
    let app = user.built("app", "");
    let stranger = User::new();
    std::fs::copy(user.path(&app), stranger.path(&app)).unwrap();
    stranger.qyv(&["compile", &app]).expect(11);
    assert!(stranger.stored().is_empty());
}
