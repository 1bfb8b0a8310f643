//! A local file system whose writes are durable when they return.
//!
//! `object_store` does not sync: after a power cut a Delta log could name a Parquet file that is
//! empty, or be cut short itself. Here a file is synced *before* it gets its name and its directory
//! after, so that what can be seen is whole, and what a commit names is there. Everything that
//! delta-rs writes goes through here: Parquet, commits, checkpoints, compaction.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use deltalake::logstore::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, local::LocalFileSystem,
    path::Path,
};
use futures::stream::BoxStream;
use parking_lot::Mutex;

/// The local file system from its root, with synced writes.
#[derive(Debug, Clone)]
pub struct DurableFileSystem {
    inner: Arc<LocalFileSystem>,
    directories: Arc<Directories>,
}

impl DurableFileSystem {
    /// A file system that makes directories durable up to and including the parent of `root`.
    pub fn new(root: PathBuf) -> Self {
        let directories = Directories { root, synced: Mutex::default() };
        Self { inner: Arc::new(LocalFileSystem::new()), directories: Arc::new(directories) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        location: &Path,
        act: impl FnOnce(&Directories, PathBuf) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.inner.path_to_filesystem(location)?;
        let (directories, shown) = (Arc::clone(&self.directories), location.to_string());
        tokio::task::spawn_blocking(move || act(&directories, path))
            .await
            .map_err(|source| object_store::Error::JoinError { source })?
            .map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists => {
                    object_store::Error::AlreadyExists { path: shown, source: source.into() }
                }
                ErrorKind::NotFound => object_store::Error::NotFound { path: shown, source: source.into() },
                _ => object_store::Error::Generic { store: "DurableFileSystem", source: source.into() },
            })
    }
}

impl fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFileSystem({})", self.directories.root.display())
    }
}

/// Directories, and which of them are known to be durable.
#[derive(Debug)]
struct Directories {
    root: PathBuf,
    synced: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Makes the directory and its ancestors, durably. One that an earlier process made may have
    /// its name only in the cache of the operating system, so each is synced once per process.
    fn ensure(&self, directory: &FilePath) -> io::Result<()> {
        if self.synced.lock().contains(directory) {
            return Ok(());
        }
        std::fs::create_dir_all(directory)?;
        let last = self.root.parent().unwrap_or(&self.root);
        for ancestor in directory.ancestors() {
            sync(ancestor)?;
            if ancestor == last {
                break;
            }
        }
        self.synced.lock().insert(directory.to_owned());
        Ok(())
    }

    /// Writes a whole file: visible only once its bytes are durable, and durable when this returns.
    fn put(&self, path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
        let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
        self.ensure(directory)?;
        let (mut file, staged) = stage(path)?;
        let written =
            payload.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all()).and_then(
                |()| if create { std::fs::hard_link(&staged, path) } else { std::fs::rename(&staged, path) },
            );
        if create || written.is_err() {
            // A leftover is not data: listings pass over names that end in `#` and digits.
            let _ = std::fs::remove_file(&staged);
        }
        written?;
        sync(directory)
    }
}

/// A new file beside `path`, named so that listings of the store do not show it.
fn stage(path: &FilePath) -> io::Result<(File, PathBuf)> {
    let mut number = 1_u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(file) => return Ok((file, name.into())),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(e),
        }
    }
}

/// Syncs a file or directory.
pub(super) fn sync(path: &FilePath) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, options).await,
        };
        self.blocking(location, move |directories, path| directories.put(&path, &payload, create)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.blocking(location, |directories, path| {
            directories.ensure(path.parent().ok_or(ErrorKind::InvalidInput)?)
        })
        .await?;
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(DurableUpload { inner, location: location.clone(), store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.blocking(to, |_, path| {
            sync(&path)?;
            path.parent().map_or(Ok(()), sync)
        })
        .await
    }
}

/// A large file: synced when it is complete. It has no reader before a commit names it.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    store: DurableFileSystem,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        self.store
            .blocking(&self.location, |_, path| {
                sync(&path)?;
                path.parent().map_or(Ok(()), sync)
            })
            .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use deltalake::logstore::object_store::ObjectStoreExt;

    #[tokio::test]
    async fn a_commit_is_created_once_and_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::new(root.path().to_owned());
        let at = Path::from_absolute_path(root.path().join("t/_delta_log/0.json")).unwrap();
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&at, "one".into(), create.clone()).await.unwrap();
        let again = store.put_opts(&at, "two".into(), create).await.unwrap_err();
        assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "one");
        store.put(&at, "three".into()).await.unwrap();
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "three");
        assert_eq!(std::fs::read_dir(root.path().join("t/_delta_log")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_large_file_comes_in_parts() {
        let root = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::new(root.path().to_owned());
        let at = Path::from_absolute_path(root.path().join("t/d=1/a.parquet")).unwrap();
        let mut upload = store.put_multipart(&at).await.unwrap();
        upload.put_part("ab".into()).await.unwrap();
        upload.put_part("cd".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "abcd");
        assert!(matches!(store.get(&Path::from("nowhere")).await, Err(object_store::Error::NotFound { .. })));
    }
}
