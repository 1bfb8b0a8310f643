//! A folder on a disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Folder, last_sequence};
use crate::sinks::Error;

/// Folder below the root in which files lie until they get their names. On the same file system as all of
/// them, or a name could not be given at once; not below a sink's own folder, or readers would list it.
const STAGING: &str = ".staging";

/// The folder of one sink.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    staging: PathBuf,
    /// Folders whose own entry in their parent is known to be durable.
    made: BTreeSet<PathBuf>,
    /// Folders in which names were given since they were synced last.
    unsynced: BTreeSet<PathBuf>,
    /// Where making folders durable ends: the parent of the root of all sinks.
    last: PathBuf,
}

impl Disk {
    /// Opens the folder `path` below the root, or makes it. `id` tells this sink's unnamed files from others'.
    pub fn open(root: &Path, path: &Path, id: &str) -> Result<Self, Error> {
        let mut disk = Self {
            folder: root.join(path),
            staging: root.join(STAGING).join(id),
            made: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            last: root.parent().unwrap_or(root).to_owned(),
        };
        let folder = disk.folder.clone();
        disk.make(&folder)?;
        fs::create_dir_all(&disk.staging).map_err(Error::disk(&disk.staging))?;
        Ok(disk)
    }

    /// What was staged and never published by a sink that is gone.
    pub fn forget(root: &Path, id: &str) {
        let _ = fs::remove_dir_all(root.join(STAGING).join(id));
    }

    /// Makes a folder, and all that lead to it, durably.
    fn make(&mut self, folder: &Path) -> Result<(), Error> {
        if self.made.contains(folder) {
            return Ok(());
        }
        fs::create_dir_all(folder).map_err(Error::disk(folder))?;
        // One that an earlier process made may have its name only in the cache of the operating system.
        for ancestor in folder.ancestors().skip(1) {
            sync(ancestor)?;
            if ancestor == self.last {
                break;
            }
        }
        self.made.insert(folder.to_owned());
        Ok(())
    }

    fn staged(&self, number: usize) -> PathBuf {
        self.staging.join(number.to_string())
    }
}

impl Folder for Disk {
    fn clear(&mut self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.staging).map_err(Error::disk(&self.staging))? {
            let path = entry.map_err(Error::disk(&self.staging))?.path();
            fs::remove_file(&path).map_err(Error::disk(&path))?;
        }
        Ok(())
    }

    fn stage(&mut self, number: usize, bytes: &[u8]) -> Result<(), Error> {
        let path = self.staged(number);
        let mut file = File::create(&path).map_err(Error::disk(&path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::disk(&path))
    }

    fn publish(&mut self, number: usize, name: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(&self.folder).to_owned();
        self.make(&folder)?;
        fs::rename(self.staged(number), &path).map_err(Error::disk(&path))?;
        self.unsynced.insert(folder);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Error> {
        while let Some(folder) = self.unsynced.pop_first() {
            sync(&folder)?;
        }
        Ok(())
    }

    fn newest(&mut self) -> Result<Option<u64>, Error> {
        let mut newest = None;
        for (name, is_folder) in list(&self.folder)? {
            if is_folder {
                for (name, _) in list(&self.folder.join(&name))? {
                    newest = newest.max(last_sequence(&name));
                }
            } else {
                newest = newest.max(last_sequence(&name));
            }
        }
        Ok(newest)
    }
}

/// Names in a folder, and whether they are folders. One that was just removed has none.
fn list(folder: &Path) -> Result<Vec<(String, bool)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::disk(folder)(e)),
    };
    entries
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?.is_dir()))
        })
        .collect::<std::io::Result<_>>()
        .map_err(Error::disk(folder))
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(Error::disk(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_its_staging_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("sinks");
        let mut disk = Disk::open(&root, Path::new("a/b"), "1").unwrap();
        disk.stage(0, b"rows").unwrap();
        assert_eq!(fs::read_dir(root.join("a/b")).unwrap().count(), 0);
        disk.publish(0, "p=x/part-000000000001-000000000003.csv").unwrap();
        disk.settle().unwrap();
        assert_eq!(fs::read(root.join("a/b/p=x/part-000000000001-000000000003.csv")).unwrap(), b"rows");
        assert_eq!(disk.newest().unwrap(), Some(3));
        // Left over by a crash: gone with the next start, and never seen by a reader.
        disk.stage(0, b"half").unwrap();
        let mut disk = Disk::open(&root, Path::new("a/b"), "1").unwrap();
        disk.clear().unwrap();
        assert_eq!(fs::read_dir(root.join(".staging/1")).unwrap().count(), 0);
        assert!(disk.publish(0, "x.csv").is_err());
    }

    #[test]
    fn other_files_are_nobodys_business() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(dir.path(), Path::new("a"), "1").unwrap();
        for name in ["_SUCCESS", "part-1.csv", "part-2-1.csv", "part-1-9.txt", "notes.csv"] {
            fs::write(dir.path().join("a").join(name), b"").unwrap();
        }
        assert_eq!(disk.newest().unwrap(), None);
        fs::write(dir.path().join("a/part-1-9.parquet"), b"").unwrap();
        assert_eq!(disk.newest().unwrap(), Some(9));
    }
}
