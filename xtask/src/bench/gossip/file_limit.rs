//! Limit of open files, raised for the sockets of all members.

use std::error::Error;

/// Raises the limit of open files to `wanted`, for this process and those that it starts, unless it
/// is as high already.
pub(crate) fn raise_file_limit(wanted: usize) -> Result<(), Box<dyn Error>> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let current = current.map(|current| current.max(wanted as u64));
        let raised = setrlimit(Resource::Nofile, Rlimit { current, maximum });
        let maximum = maximum.unwrap_or(u64::MAX);
        raised.map_err(|_| {
            format!(
                "a process here may have {maximum} files open and this takes {wanted}: raise it \
                 (`ulimit -Hn`), take more --processes or fewer --nodes"
            )
        })?;
    }
    let _ = wanted;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sufficient_limit_is_kept_and_an_impossible_one_is_an_error() {
        assert!(raise_file_limit(8).is_ok());
        // More than a kernel allows.
        let refused = raise_file_limit(1 << 40).unwrap_err().to_string();
        assert!(refused.contains("fewer --nodes"), "{refused}");
    }
}
