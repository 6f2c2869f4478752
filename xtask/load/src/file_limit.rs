//! Limit of open files, raised for many sockets.

use std::io;

/// Raises the limit of open files to `wanted`, for this process and those that it starts, unless it
/// is as high already.
///
/// # Errors
///
/// When the system allows fewer; the message names both numbers.
pub fn raise_file_limit(wanted: usize) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let current = current.map(|current| current.max(wanted as u64));
        let raised = setrlimit(Resource::Nofile, Rlimit { current, maximum });
        let maximum = maximum.unwrap_or(u64::MAX);
        raised.map_err(|_| {
            io::Error::other(format!(
                "a process here may have {maximum} files open and this takes {wanted}: raise it \
                 (`ulimit -Hn`) or take fewer"
            ))
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
        assert!(refused.contains("take fewer"), "{refused}");
    }
}
