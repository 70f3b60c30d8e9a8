//! The acting user's privileges: capabilities(7), and the ids that its user namespace maps (user_namespaces(7)).

use serde::{Deserialize, Serialize};

/// A privilege that changing files may require.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capability {
    #[serde(rename = "CAP_CHOWN")]
    ChangeOwner = 0,
    #[serde(rename = "CAP_FOWNER")]
    FileOwner = 3,
}

impl Capability {
    /// Returns the name as in capabilities(7).
    pub fn name(self) -> &'static str {
        match self {
            Self::ChangeOwner => "CAP_CHOWN",
            Self::FileOwner => "CAP_FOWNER",
        }
    }
}

/// Returns whether this process has the capability. If the kernel does not report capabilities, root has all and other
/// users none.
pub fn has_capability(capability: Capability) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.map_or_else(crate::host::fs::acts_as_root, |bits| bits & 1 << capability as u64 != 0)
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
    fn this_process_has_the_capabilities_of_root() {
        assert_eq!(has_capability(Capability::ChangeOwner), crate::host::fs::acts_as_root());
        assert!(is_mapped(Id::User, 0) && is_mapped(Id::Group, 0));
    }
}
