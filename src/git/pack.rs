//! Packs of objects on their way from scratch storage to a checkout.

use std::fs::{self, File};
use std::path::Path;

use git2::{Oid, Repository};

use super::error::{git_failure, io_failure};
use crate::failure::Failure;

/// A fetched pack, as open files without a name: they disappear with their last owner, even if that is killed.
#[derive(Debug)]
pub struct FetchedPack {
    /// The name that it gets in an object store: `pack-<digits>`.
    pub name: String,
    pub pack: File,
    pub index: File,
}

/// Opens the packs of `objects`, the object store of `repo`, after packing its loose objects.
pub fn read_all(repo: &Repository, objects: &Path) -> Result<Vec<FetchedPack>, Failure> {
    pack_loose_objects(repo, objects)?;
    let folder = objects.join("pack");
    let failed = io_failure("read", &folder);
    let mut packs = Vec::new();
    for entry in fs::read_dir(&folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        if path.extension().is_some_and(|extension| extension == "pack") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let pack = File::open(&path).map_err(io_failure("read", &path))?;
            let index = File::open(path.with_extension("idx")).map_err(io_failure("read", &path))?;
            packs.push(FetchedPack { name, pack, index });
        }
    }
    packs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(packs)
}

/// Packs loose objects. A web server that does not know git sends objects one by one.
fn pack_loose_objects(repo: &Repository, folder: &Path) -> Result<(), Failure> {
    let failed = io_failure("read", folder);
    let mut loose = Vec::new();
    for begin in fs::read_dir(folder).map_err(&failed)? {
        let begin = begin.map_err(&failed)?;
        if begin.file_name().len() == 2 {
            for rest in fs::read_dir(begin.path()).map_err(&failed)? {
                let rest = rest.map_err(&failed)?.file_name();
                let id = [begin.file_name().to_string_lossy(), rest.to_string_lossy()].concat();
                loose.extend(Oid::from_str(&id));
            }
        }
    }
    if loose.is_empty() {
        return Ok(());
    }
    let failed = git_failure("pack what was fetched", folder);
    let mut pack = repo.packbuilder().map_err(&failed)?;
    for id in loose {
        pack.insert_object(id, None).map_err(&failed)?;
    }
    pack.write(&folder.join("pack"), 0o444).map_err(&failed)
}
