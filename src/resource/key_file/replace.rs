//! Putting a key in place, and taking it back where the host for which it is meant turns it down from there.
//!
//! The key that is replaced goes on under a second name until the new one is proven. A process that is killed in between
//! leaves both, and the next run decides between them by the same rules.

use crate::failure::Failure;
use std::ffi::OsStr;

use super::proof::{Judgement, Proof};
use super::{Attributes, KeyFile};
use crate::host::fs::{Dir, Place, Stat};
use crate::host::secret::Secret;
use crate::host::ssh::KeyRead;

/// No key is larger, in bytes: RSA keys of 16384 bits take some 13,000.
pub(super) const MAX_KEY_BYTES: u64 = 1 << 20;

impl KeyFile {
    /// Makes the file. Where the key does not stand its proof from there, the file goes again.
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
                Err(undone(&refusal, "the file is removed again"))
            }
        }
    }

    /// Puts a new file in the place of the one that was `seen`. Where the key does not stand its proof from there, the old
    /// file comes back, the very inode.
    pub(super) fn replace_proven(
        &self,
        place: &Place,
        seen: &Stat,
        key: &Secret,
        attributes: Attributes,
    ) -> Result<(), Failure> {
        let Place { dir, name, .. } = place;
        if self.verify.as_ref().is_none_or(|verify| verify.ssh.is_none()) {
            return Ok(dir.replace(name, key.expose(), seen, attributes)?);
        }
        let kept = dir.back_up(name, seen)?;
        // The second name counts as one more link.
        let seen = &dir.stat(name)?.filter(|stat| stat.is_same_file(seen)).unwrap_or(*seen);
        if let Err(error) = dir.replace(name, key.expose(), seen, attributes) {
            // Whether the new file is there or not, the old one is to be.
            self.restore_backup(dir, kept.name(), name, seen)?;
            return Err(error.into());
        }
        match self.prove_in_place(dir, name) {
            Ok(None) => Ok(dir.discard_backup(kept.name())?),
            Ok(Some(refusal)) => {
                self.restore_backup(dir, kept.name(), name, seen)?;
                Err(undone(&refusal, "the old key is back in its place"))
            }
            Err(failure) => {
                self.restore_backup(dir, kept.name(), name, seen)?;
                Err(failure)
            }
        }
    }

    fn restore_backup(&self, dir: &Dir, kept: &str, name: &OsStr, old: &Stat) -> Result<(), Failure> {
        let result = match dir.stat(name) {
            // It never left: between two names of one inode, rename(2) does nothing.
            Ok(Some(stat)) if stat.is_same_file(old) => dir.discard_backup(kept),
            _ => dir.restore_backup(kept, name),
        };
        result.map_err(|error| {
            let kept = crate::host::fs::escape_path(&dir.path_of(OsStr::new(kept)));
            let failure = Failure::new(format!("the new key is not proven, and the old one stays in {kept}: {error}"));
            failure.hint(format!("put it back by hand: mv {kept} {}", self.path))
        })
    }

    /// Proves the key from its place as this process's user; why it must not stay, if so.
    fn prove_in_place(&self, dir: &Dir, name: &OsStr) -> Result<Option<Failure>, Failure> {
        let Some(verify) = self.verify.as_ref().filter(|verify| verify.ssh.is_some()) else { return Ok(None) };
        let exchanged = || {
            Failure::new(format!("{} was exchanged while it was proven", self.path))
                .hint("see who else works in that directory, then run again")
        };
        let (what, proof) = match dir.read(name, MAX_KEY_BYTES) {
            Ok(Some(seen)) => {
                let KeyRead::PrivateKey(facts) = KeyRead::on_this_host(&seen.bytes) else { return Err(exchanged()) };
                let proof = verify.prove(&Secret::new(seen.bytes.to_vec()), &facts);
                (format!("the key {}", facts.fingerprint), proof)
            }
            Ok(None) => return Err(exchanged()),
            // With the mode and owner that it is to have, the step's own user cannot read it.
            Err(error) if error.is_denied() => {
                (format!("the key in {}", self.path), Some(Proof::Unusable(error.into())))
            }
            Err(error) => return Err(error.into()),
        };
        Ok(match proof.map(|proof| verify.check(&what, &proof)) {
            Some(Judgement::Bad(refusal)) => Some(refusal),
            _ => None,
        })
    }
}

fn undone(refusal: &Failure, how: &str) -> Failure {
    let message = format!("{} once it was in place; {how}", refusal.message);
    Failure { message, hint: refusal.hint.clone() }
}
