//! Which build this is. Set by whoever builds a release; a build that was told nothing says so.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub const GIT_SHA: &str = match option_env!("GIT_COMMIT_SHA") {
    Some(sha) => sha,
    None => "unknown",
};

pub const DATE: &str = match option_env!("BUILD_DATE") {
    Some(date) => date,
    None => "unknown",
};
