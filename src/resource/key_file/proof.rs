//! Proving a key: a login at the host for which it is meant, and what follows from how that went.

use crate::failure::Failure;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PublicFacts;
use crate::host::environment;
use crate::host::secret::Secret;
use crate::host::ssh::known_hosts::KnownHosts;
use crate::host::ssh::{self, Address, Fingerprint, HostKey};

/// No proof takes longer: whoever stands behind a bastion that is down should still see a plan.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the key has to be good for a login.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// `user@host[:port]`; null (a template that gives none): nothing is verified. The key itself has to be there.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) ssh: Option<Address>,
    /// The host key's fingerprint; without it, the step's user has to know the host (`known_hosts`).
    #[serde(default)]
    host_key: Option<Fingerprint>,
    /// Whether the step holds only where the key is proven: a host that cannot be reached blocks it then.
    #[serde(default, deserialize_with = "crate::resource::value::or_default")]
    pub(super) required: bool,
    /// Whether the host should no longer take the key that is replaced.
    #[serde(default, deserialize_with = "crate::resource::value::or_default")]
    pub(super) retire: bool,
}

/// What came of a login that was tried with a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", content = "why", rename_all = "snake_case")]
pub enum Proof {
    /// The host takes the key.
    Accepted,
    /// The host does not, or does not let the user in, or hung up on it.
    Rejected(Failure),
    /// The host did not answer, or broke off before the key was offered: it said neither yes nor no.
    Unreachable(Failure),
    /// It is not known to be the right host, so its answer would mean nothing.
    HostKey(Failure),
    /// The key cannot be tried by this program.
    Unusable(Failure),
}

/// What follows from a proof.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// The key is good: a note.
    Good(String),
    /// It is not known whether the key is good, and the step does not insist: a warning.
    Open(String),
    /// The key must not take the place of another.
    Bad(Failure),
}

impl Verify {
    /// Tries a login with a key as this process's user, if a host is named. Nothing else is done on the host.
    pub(super) fn prove(&self, key: &Secret, facts: &PublicFacts) -> Option<Proof> {
        let address = self.ssh.as_ref()?;
        if let Some(reason) = untriable(&facts.algorithm) {
            let failure = Failure::new(format!("a key of type {} {reason}", facts.algorithm));
            return Some(Proof::Unusable(
                failure.hint(format!("try it by hand: ssh -i KEY {}", by_hand_options(address))),
            ));
        }
        let host_key = match &self.host_key {
            Some(fingerprint) => HostKey::Fingerprint(fingerprint.clone()),
            None => HostKey::Known(KnownHosts::of(environment::home().as_deref())),
        };
        Some(match ssh::prove(address, &host_key, key, LIMIT) {
            Ok(()) => Proof::Accepted,
            Err(ssh::Error::Rejected(failure)) => Proof::Rejected(failure),
            Err(ssh::Error::Unreachable(failure)) => Proof::Unreachable(failure),
            Err(ssh::Error::HostKey(failure)) => Proof::HostKey(failure),
            Err(ssh::Error::UnknownHostKey(Failure { message, hint })) => {
                let hint = hint.map(|hint| format!("{hint}; or give it as `host_key` in `verify`"));
                Proof::HostKey(Failure { message, hint })
            }
            Err(ssh::Error::Key(failure)) => Proof::Unusable(failure),
        })
    }

    /// What a proof of a key means for it. `what` names the key: "the key SHA256:…".
    pub(super) fn check(&self, what: &str, proof: &Proof) -> Judgement {
        let bastion = self.ssh.as_ref().map(ToString::to_string).unwrap_or_default();
        match proof {
            Proof::Accepted => Judgement::Good(format!("{bastion} takes {what}")),
            Proof::Rejected(failure) | Proof::HostKey(failure) => Judgement::Bad(refusal(what, failure)),
            Proof::Unreachable(failure) | Proof::Unusable(failure) if self.required => {
                Judgement::Bad(refusal(what, failure))
            }
            Proof::Unreachable(failure) | Proof::Unusable(failure) => {
                Judgement::Open(one_line(&refusal(what, failure)))
            }
        }
    }
}

fn refusal(what: &str, failure: &Failure) -> Failure {
    Failure { message: format!("{what} is not proven: {}", failure.message), hint: failure.hint.clone() }
}

/// A refusal as a warning, which has no hint of its own.
pub(super) fn one_line(refusal: &Failure) -> String {
    let hint = refusal.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", refusal.message)
}

/// Why a key of this algorithm cannot be tried, where it cannot.
fn untriable(algorithm: &str) -> Option<&'static str> {
    match algorithm {
        "ssh-dss" => Some("cannot be tried here: DSA is given up by SSH servers"),
        _ if algorithm.starts_with("sk-") => Some("cannot be tried here: it needs its hardware token, and a touch"),
        _ => None,
    }
}

/// What `ssh` is given besides the key, so that this key and nothing else decides.
pub(super) fn by_hand_options(address: &Address) -> String {
    let port = if address.port == 22 { String::new() } else { format!("-p {} ", address.port) };
    let Address { user, host, .. } = address;
    let place = crate::text::shell_word(&format!("{user}@{host}"));
    format!("-o IdentitiesOnly=yes -o BatchMode=yes {port}{place} true")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place at which nobody listens.
    fn verify(more: &str) -> Verify {
        serde_yaml::from_str(&format!("{{ ssh: 'etl@127.0.0.1:1', {more} }}")).unwrap()
    }

    fn prove(verify: &Verify, algorithm: &str) -> Option<Proof> {
        let facts = PublicFacts { algorithm: algorithm.to_owned(), fingerprint: "SHA256:a".to_owned() };
        verify.prove(&Secret::new(b"key".to_vec()), &facts)
    }

    #[test]
    fn keys_that_need_their_hardware_are_not_tried() {
        for algorithm in ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-dss"] {
            let proof = prove(&verify(""), algorithm).unwrap();
            let Proof::Unusable(why) = &proof else { panic!("{proof:?}") };
            assert!(why.message.contains("cannot be tried here"), "{why:?}");
            assert!(why.hint.as_ref().unwrap().contains("-p 1 etl@127.0.0.1 true"), "{why:?}");
            assert!(matches!(verify("").check("it", &proof), Judgement::Open(_)));
            assert!(matches!(verify("required: true").check("it", &proof), Judgement::Bad(_)));
        }
    }

    #[test]
    fn nobody_is_asked_where_no_host_is_named() {
        assert_eq!(prove(&Verify::default(), "ssh-ed25519"), None);
        assert!(matches!(prove(&verify(""), "ssh-ed25519"), Some(Proof::Unreachable(_))));
    }
}
