//! Installs a key, and removes it again if its host rejects it from there.
//!
//! The replaced key is kept as a backup until the new one is proven. A process that is killed in between leaves both,
//! and the next run decides between them by the same rules.

use crate::failure::Failure;
use std::ffi::OsStr;

use super::proof::{Proof, ProofResult};
use super::{Attributes, KeyFile};
use crate::host::fs::{Dir, Place, Stat};
use crate::host::secret::Secret;
use crate::host::ssh::KeyRead;
use crate::text::shell_word;

/// The maximum size of a key, in bytes. RSA keys with 16384 bits have about 13,000.
pub(super) const MAX_KEY_BYTES: u64 = 1 << 20;

impl KeyFile {
    /// Creates the file. Removes it again if the key fails its proof.
    pub(super) fn create_proven(
        &self,
        dir: &Dir,
        name: &OsStr,
        key: &Secret,
        attributes: Attributes,
    ) -> Result<(), Failure> {
        dir.create(name, key.expose(), attributes)?;
        let Some(made) = dir.stat(name)? else { return Ok(()) };
        match self.prove_in_place(dir, name)? {
            None => Ok(()),
            Some(refusal) => {
                dir.remove(name, &made)?;
                Err(undone(&refusal, "the file was removed again"))
            }
        }
    }

    /// Replaces the file `seen` by a new one. If the key fails its proof, the old inode is restored.
    pub(super) fn replace_proven(
        &self,
        place: &Place,
        seen: &Stat,
        key: &Secret,
        attributes: Attributes,
    ) -> Result<(), Failure> {
        let (dir, name) = (place.parent()?, &place.name);
        if self.verify.as_ref().is_none_or(|verify| verify.ssh.is_none()) {
            return Ok(dir.replace(name, key.expose(), seen, attributes)?);
        }
        let kept = dir.back_up(name, seen)?;
        // The backup adds a hard link.
        let seen = &dir.stat(name)?.filter(|stat| stat.is_same_file(seen)).unwrap_or(*seen);
        if let Err(error) = dir.replace(name, key.expose(), seen, attributes) {
            // The old file is restored even if the new one was not written.
            self.restore_backup(dir, kept.name(), name, seen)?;
            return Err(error.into());
        }
        match self.prove_in_place(dir, name) {
            Ok(None) => Ok(dir.discard_backup(kept.name())?),
            Ok(Some(refusal)) => {
                self.restore_backup(dir, kept.name(), name, seen)?;
                Err(undone(&refusal, "the old key was restored"))
            }
            Err(failure) => {
                self.restore_backup(dir, kept.name(), name, seen)?;
                Err(failure)
            }
        }
    }

    fn restore_backup(&self, dir: &Dir, kept: &str, name: &OsStr, old: &Stat) -> Result<(), Failure> {
        let result = match dir.stat(name) {
            // The name still refers to the old inode, and rename(2) does nothing between two names of the same inode.
            Ok(Some(stat)) if stat.is_same_file(old) => dir.discard_backup(kept),
            _ => dir.restore_backup(kept, name),
        };
        result.map_err(|error| {
            let kept = dir.path_of(OsStr::new(kept));
            let failure = Failure::new(format!(
                "the new key is not proven, and the old one remains in {}: {error}",
                crate::host::fs::escape_path(&kept)
            ));
            failure.hint(format!("restore it manually: `mv {} {}`", shell_word(&kept), shell_word(&self.path)))
        })
    }

    /// Proves the installed key as this process's user. Returns why it must be removed, if it must.
    fn prove_in_place(&self, dir: &Dir, name: &OsStr) -> Result<Option<Failure>, Failure> {
        let Some(verify) = self.verify.as_ref().filter(|verify| verify.ssh.is_some()) else { return Ok(None) };
        let replaced = || {
            Failure::new(format!("{} was replaced while its key was proven", self.path))
                .hint("check what else is changing that directory, then run again")
        };
        let (what, proof) = match dir.read(name, MAX_KEY_BYTES) {
            Ok(Some(seen)) => {
                let KeyRead::PrivateKey(facts) = KeyRead::on_this_host(&seen.bytes) else { return Err(replaced()) };
                let proof = verify.prove(&Secret::new(seen.bytes.to_vec()), &facts);
                (format!("the key {}", facts.fingerprint), proof)
            }
            Ok(None) => return Err(replaced()),
            // The step's user cannot read the file with its desired mode and owner.
            Err(error) if error.is_denied() => {
                (format!("the key in {}", self.path), Some(Proof::Unusable(error.into())))
            }
            Err(error) => return Err(error.into()),
        };
        Ok(match proof.map(|proof| verify.check(&what, &proof)) {
            Some(ProofResult::Rejected(refusal)) => Some(refusal),
            _ => None,
        })
    }
}

fn undone(refusal: &Failure, how: &str) -> Failure {
    let message = format!("{} after it was installed; {how}", refusal.message);
    Failure { message, hint: refusal.hint.clone() }
}
