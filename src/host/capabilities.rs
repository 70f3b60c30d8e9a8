//! The acting user's privileges: capabilities(7), and which numbers its user namespace knows (user_namespaces(7)).

use serde::{Deserialize, Serialize};

/// A privilege that changing files can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capability {
    #[serde(rename = "CAP_CHOWN")]
    ChangeOwner = 0,
    #[serde(rename = "CAP_FOWNER")]
    FileOwner = 3,
}

impl Capability {
    /// As capabilities(7) has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChangeOwner => "CAP_CHOWN",
            Self::FileOwner => "CAP_FOWNER",
        }
    }
}

/// Whether this process has the capability. Where the kernel does not tell, root has all and nobody else any.
pub fn has_capability(capability: Capability) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.map_or_else(crate::host::fs::acts_as_root, |bits| bits & 1 << capability as u64 != 0)
}

/// Which of the two kinds of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    User,
    Group,
}

/// Whether this process's user namespace knows the number: where not, nothing can be given to it.
pub fn is_mapped(kind: Id, id: u32) -> bool {
    let file = match kind {
        Id::User => "/proc/self/uid_map",
        Id::Group => "/proc/self/gid_map",
    };
    let Ok(map) = std::fs::read_to_string(file) else { return true };
    contains(&map, id)
}

/// Whether a map, with the first number inside, the first outside and their count on each line, contains a number.
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
    fn this_process_has_what_root_has() {
        assert_eq!(has_capability(Capability::ChangeOwner), crate::host::fs::acts_as_root());
        assert!(is_mapped(Id::User, 0) && is_mapped(Id::Group, 0));
    }
}
