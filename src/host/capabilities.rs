//! The acting user's privileges: capabilities(7), and the ids that its user namespace maps (user_namespaces(7)).

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

/// Whether this process makes changes.
static MAKES_CHANGES: AtomicBool = AtomicBool::new(false);

/// A privilege that changing files may require.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capability {
    #[serde(rename = "CAP_CHOWN")]
    ChangeOwner = 0,
    #[serde(rename = "CAP_DAC_OVERRIDE")]
    WriteAll = 1,
    #[serde(rename = "CAP_FOWNER")]
    FileOwner = 3,
    #[serde(rename = "CAP_FSETID")]
    SetId = 4,
}

impl Capability {
    /// Returns the name as in capabilities(7).
    pub fn name(self) -> &'static str {
        match self {
            Self::ChangeOwner => "CAP_CHOWN",
            Self::WriteAll => "CAP_DAC_OVERRIDE",
            Self::FileOwner => "CAP_FOWNER",
            Self::SetId => "CAP_FSETID",
        }
    }

    /// Returns the hint for a root without this capability.
    pub fn hint(self) -> String {
        let name = self.name();
        format!(
            "root lacks {name} here: run provision with it (docker run --cap-add={name}, or CapabilityBoundingSet= of the unit)"
        )
    }
}

/// Returns the capability that this process lacks to write files of other users, if it is root.
pub fn missing_write_all() -> Option<Capability> {
    let lacks = crate::host::fs::acts_as_root() && !has_capability(Capability::WriteAll);
    lacks.then_some(Capability::WriteAll)
}

/// Returns whether chmod(2) lets this process set the set-group-ID bit of a file or directory of the group `gid`. Otherwise it
/// clears the bit, and reports success.
pub fn keeps_set_group_id(gid: u32) -> bool {
    has_capability(Capability::SetId) || crate::host::fs::is_in_group(gid)
}

/// Declares that this process makes changes, with its own rights. A process that only plans may have fewer rights than the apply
/// that it plans for.
pub fn set_makes_changes() {
    MAKES_CHANGES.store(true, Ordering::Relaxed);
}

/// Returns whether this process makes changes.
pub fn makes_changes() -> bool {
    MAKES_CHANGES.load(Ordering::Relaxed)
}

/// Returns whether this process has the capability, or an apply by root would have it. If the kernel does not report
/// capabilities, root has all and other users none.
pub fn has_capability(capability: Capability) -> bool {
    let root = crate::host::fs::acts_as_root();
    effective().map_or(root, |bits| bits & 1 << capability as u64 != 0 || root && is_for_planning(bits))
}

/// Returns whether this is root with the right to read everything, and none to write what others own. A plan is confined to
/// these rights on purpose (packaging/systemd), so a later apply may have more. An apply with these
/// rights has no others.
pub fn is_confined_to_planning() -> bool {
    crate::host::fs::acts_as_root() && effective().is_some_and(is_for_planning)
}

/// The capabilities of this process, a bit each, if the kernel reports them.
fn effective() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

fn is_for_planning(effective: u64) -> bool {
    only_reads(effective) && !makes_changes()
}

fn only_reads(effective: u64) -> bool {
    const CAP_DAC_OVERRIDE: u64 = 1 << Capability::WriteAll as u64;
    const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
    effective & (CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH) == CAP_DAC_READ_SEARCH
}

/// The type of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    User,
    Group,
}

/// Returns whether the id is mapped in this process's user namespace. Ownership cannot be given to an id that is not.
pub fn is_mapped(kind: Id, id: u32) -> bool {
    let file = match kind {
        Id::User => "/proc/self/uid_map",
        Id::Group => "/proc/self/gid_map",
    };
    let Ok(map) = std::fs::read_to_string(file) else { return true };
    contains(&map, id)
}

/// Returns whether a map contains an id. Each line has the first id inside, the first id outside, and the length of the
/// range.
fn contains(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().ok());
        let (first, count) = (fields.next().flatten(), fields.nth(1).flatten());
        first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&u64::from(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_contains_its_ranges() {
        assert!(contains("         0          0 4294967295\n", 50000));
        assert!(!contains("         0       1000          1\n", 50000));
        assert!(contains("0 1000 1\n1 100000 65536\n", 50000));
        assert!(!contains("0 1000 1\n1 100000 65536\n", 65537));
    }

    #[test]
    fn a_reader_of_everything_is_confined_to_planning() {
        assert!(only_reads(0xe4), "provision-plan@.service");
        assert!(!only_reads(0x1_ffff_ffff), "root");
        assert!(!only_reads(0xa804_25fb), "a container of Docker");
        assert!(!only_reads(0));
    }

    #[test]
    fn this_process_has_the_capabilities_of_root() {
        assert_eq!(has_capability(Capability::ChangeOwner), crate::host::fs::acts_as_root());
        assert!(is_mapped(Id::User, 0) && is_mapped(Id::Group, 0));
    }
}
