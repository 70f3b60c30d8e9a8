//! Proves a key by a login at the host for which it is intended, and decides what follows from the result.

use crate::failure::Failure;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PublicFacts;
use crate::host::environment;
use crate::host::secret::Secret;
use crate::host::ssh::known_hosts::KnownHosts;
use crate::host::ssh::{self, Address, Fingerprint, HostKey};

/// The default time limit of a proof, in seconds. A plan has to be possible even if the bastion is down.
const LIMIT: u32 = 10;
/// The longest time limit, in seconds. A plan tries up to three logins.
const MAX_LIMIT: u32 = 300;

/// The time limit of a login, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Timeout(u32);

impl TryFrom<u32> for Timeout {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        if (1..=MAX_LIMIT).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(format!("`timeout` is a number of seconds from 1 to {MAX_LIMIT}"))
        }
    }
}

impl From<Timeout> for u32 {
    fn from(timeout: Timeout) -> Self {
        timeout.0
    }
}

/// The host where a login with the key has to succeed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// `user@host[:port]`. If it is null (an empty template), nothing is verified. The key itself has to be present.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) ssh: Option<Address>,
    /// The fingerprint of the host key. Without it, the host has to be in the `known_hosts` of the step's user.
    #[serde(default)]
    host_key: Option<Fingerprint>,
    /// How long a login may take. The default is 10 seconds.
    #[serde(default)]
    timeout: Option<Timeout>,
    /// Whether the step requires a proven key. An unreachable host then blocks it.
    #[serde(default, deserialize_with = "crate::resource::value::or_default")]
    pub(super) required: bool,
    /// Whether the host should no longer accept the key that is replaced.
    #[serde(default, deserialize_with = "crate::resource::value::or_default")]
    pub(super) retire: bool,
}

impl Verify {
    /// Whether the host has to be in the `known_hosts` of the step's user.
    pub(super) fn needs_known_hosts(&self) -> bool {
        self.ssh.is_some() && self.host_key.is_none()
    }
}

/// The result of a login with a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", content = "why", rename_all = "snake_case")]
pub enum Proof {
    /// The host accepts the key.
    Accepted,
    /// The host accepts the key and requires a further method, which the value names.
    AcceptedInPart(String),
    /// The host and this program have no algorithm or protocol version in common, so no run can prove a key there.
    Incompatible(Failure),
    /// The host rejects the key or the user, or closed the connection when the key was offered.
    Rejected(Failure),
    /// The host did not answer, or closed the connection before the key was offered. The result is unknown.
    Unreachable(Failure),
    /// The identity of the host could not be verified, so its answer means nothing.
    HostKey(Failure),
    /// This program cannot test the key.
    Unusable(Failure),
}

/// What follows from a proof.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ProofResult {
    /// The key is good. Reported as a note.
    Proven(String),
    /// It is not known whether the key is good, and the step does not require it. Reported as a warning.
    Unproven(String),
    /// The key must not replace another one.
    Rejected(Failure),
}

impl Verify {
    /// Tries a login with a key as this process's user, if a host is given. Does nothing else on the host.
    pub(super) fn prove(&self, key: &Secret, facts: &PublicFacts) -> Option<Proof> {
        let address = self.ssh.as_ref()?;
        if let Some(reason) = untestable_reason(&facts.algorithm) {
            let failure = Failure::new(format!("a key of type {} {reason}", facts.algorithm));
            return Some(Proof::Unusable(
                failure.hint(format!("try it manually: `ssh -i KEY {}`", ssh_options(address))),
            ));
        }
        let host_key = match &self.host_key {
            Some(fingerprint) => HostKey::Fingerprint(fingerprint.clone()),
            None => HostKey::Known(KnownHosts::of(environment::home().as_deref())),
        };
        let limit = Duration::from_secs(self.timeout.map_or(LIMIT, |timeout| timeout.0).into());
        Some(match ssh::prove(address, &host_key, key, limit) {
            Ok(()) => Proof::Accepted,
            Err(ssh::Error::MoreRequired(methods)) => Proof::AcceptedInPart(methods),
            Err(ssh::Error::Incompatible(failure)) => Proof::Incompatible(failure),
            Err(ssh::Error::Rejected(failure)) => Proof::Rejected(failure),
            Err(ssh::Error::Unreachable(failure) | ssh::Error::Silent(failure)) => Proof::Unreachable(failure),
            Err(ssh::Error::HostKey(failure)) => Proof::HostKey(failure),
            Err(ssh::Error::UnknownHostKey(Failure { message, hint })) => {
                let hint = hint.map(|hint| format!("{hint}; or set it as `host_key` in `verify`"));
                Proof::HostKey(Failure { message, hint })
            }
            Err(ssh::Error::Key(failure)) => Proof::Unusable(failure),
        })
    }

    /// Returns what the proof of a key means. `what` is the key: "the key SHA256:…".
    pub(super) fn check(&self, what: &str, proof: &Proof) -> ProofResult {
        let bastion = self.ssh.as_ref().map(ToString::to_string).unwrap_or_default();
        match proof {
            Proof::Accepted => ProofResult::Proven(format!("{bastion} accepts {what}")),
            Proof::AcceptedInPart(methods) => {
                ProofResult::Proven(format!("{bastion} accepts {what}, and also requires {methods}"))
            }
            Proof::Rejected(failure) | Proof::HostKey(failure) | Proof::Incompatible(failure) => {
                ProofResult::Rejected(refusal(what, failure))
            }
            Proof::Unreachable(failure) | Proof::Unusable(failure) if self.required => {
                ProofResult::Rejected(refusal(what, failure))
            }
            Proof::Unreachable(failure) | Proof::Unusable(failure) => {
                ProofResult::Unproven(one_line(&refusal(what, failure)))
            }
        }
    }
}

fn refusal(what: &str, failure: &Failure) -> Failure {
    Failure { message: format!("{what} is not proven: {}", failure.message), hint: failure.hint.clone() }
}

/// Returns a failure as a warning, which has no separate hint.
pub(super) fn one_line(refusal: &Failure) -> String {
    let hint = refusal.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", refusal.message)
}

/// Returns why a key of this algorithm cannot be tested, if it cannot.
fn untestable_reason(algorithm: &str) -> Option<&'static str> {
    match algorithm {
        "ssh-dss" => Some("cannot be tried here: SSH servers no longer support DSA"),
        _ if algorithm.starts_with("sk-") => Some("cannot be tried here: it needs its hardware token and a touch"),
        _ => None,
    }
}

/// Returns the `ssh` options that make only this key count.
pub(super) fn ssh_options(address: &Address) -> String {
    let port = if address.port == 22 { String::new() } else { format!("-p {} ", address.port) };
    let Address { user, host, .. } = address;
    let place = crate::text::shell_word(format!("{user}@{host}"));
    format!("-o IdentitiesOnly=yes -o BatchMode=yes {port}{place} true")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address where nothing listens.
    fn verify(more: &str) -> Verify {
        serde_yaml::from_str(&format!("{{ ssh: 'etl@127.0.0.1:1', {more} }}")).unwrap()
    }

    fn prove(verify: &Verify, algorithm: &str) -> Option<Proof> {
        let facts = PublicFacts { algorithm: algorithm.to_owned(), fingerprint: "SHA256:a".to_owned() };
        verify.prove(&Secret::new(b"key".to_vec()), &facts)
    }

    #[test]
    fn keys_that_need_hardware_are_not_tried() {
        for algorithm in ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-dss"] {
            let proof = prove(&verify(""), algorithm).unwrap();
            let Proof::Unusable(why) = &proof else { panic!("{proof:?}") };
            assert!(why.message.contains("cannot be tried here"), "{why:?}");
            assert!(why.hint.as_ref().unwrap().contains("-p 1 etl@127.0.0.1 true"), "{why:?}");
            assert!(matches!(verify("").check("it", &proof), ProofResult::Unproven(_)));
            assert!(matches!(verify("required: true").check("it", &proof), ProofResult::Rejected(_)));
        }
    }

    #[test]
    fn nothing_is_tried_without_a_host() {
        assert_eq!(prove(&Verify::default(), "ssh-ed25519"), None);
        assert!(matches!(prove(&verify(""), "ssh-ed25519"), Some(Proof::Unreachable(_))));
    }
}
