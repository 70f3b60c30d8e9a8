//! Identifies this host.

/// Returns the host name.
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned())
}

/// Returns the machine id (machine-id(5)), or an empty text if there is none. It is confidential: only a keyed hash of
/// it may leave the machine.
pub fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|text| text.trim().to_owned()).unwrap_or_default()
}
