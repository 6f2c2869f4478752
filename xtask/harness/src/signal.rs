//! Interruption of a command by Ctrl-C or SIGTERM.

use std::{error::Error, process::ExitCode};

use crate::Outcome;

/// Runs a command on a runtime of one thread until it ends or is interrupted. Child processes are
/// killed with their handles, which are dropped by then.
pub fn run_until_interrupted(
    command: impl Future<Output = Result<ExitCode, Box<dyn Error>>>,
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = command => outcome,
            signal = interrupted() => {
                signal?;
                eprintln!("interrupted");
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    })
}

/// Waits until the user or the system asks for the end.
pub async fn interrupted() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Exit code of an interrupted program in a shell: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;
