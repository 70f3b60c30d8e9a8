//! What tells this host from others.

/// What the host calls itself.
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned())
}

/// The machine's id (machine-id(5)), which has to stay on it: only a keyed hash of it may leave. Empty where there is none.
pub fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|text| text.trim().to_owned()).unwrap_or_default()
}
