//! Host identity: tells hosts that share a private key apart, and survives a restart.

use std::fs;

/// Machine id and name of the host, as far as they are set; `None` without both.
///
/// Machines of one image may share the id, and machines of one domain the name, so both count.
pub(crate) fn host_identity() -> Option<Vec<u8>> {
    let machine_id = MACHINE_ID_FILES.iter().find_map(|file| read(file));
    let name = read(HOST_NAME_FILE).or_else(|| std::env::var("COMPUTERNAME").ok());
    combine(machine_id, name)
}

fn combine(machine_id: Option<String>, name: Option<String>) -> Option<Vec<u8>> {
    let said = |text: Option<String>| text.filter(|text| !PLACEHOLDERS.contains(&text.as_str()));
    let (machine_id, name) = (said(machine_id), said(name));
    if machine_id.is_none() && name.is_none() {
        return None;
    }
    let text = format!(
        "{}/{}",
        machine_id.unwrap_or_default(),
        name.unwrap_or_default()
    );
    Some(text.into_bytes())
}

fn read(file: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned())
}

/// machine-id(5).
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// uname(2), without a system call.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Values that these files have before they are set.
const PLACEHOLDERS: [&str; 4] = ["", "uninitialized", "(none)", "localhost"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_identities_differ_by_machine_id_or_name_and_placeholders_give_none() {
        let identity = |machine_id: &str, name: &str| {
            combine(Some(machine_id.to_owned()), Some(name.to_owned()))
        };
        let host = identity("4c4c", "web-1");
        assert!(host.is_some());
        assert_eq!(host, identity("4c4c", "web-1"));
        assert_ne!(host, identity("4c4d", "web-1"));
        assert_ne!(host, identity("4c4c", "web-2"));
        assert_ne!(identity("a", ""), identity("", "a"));
        assert_eq!(identity("uninitialized", "localhost"), None);
        assert_eq!(combine(None, None), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_identity_of_this_host_stays() {
        assert_eq!(host_identity(), host_identity());
    }
}
