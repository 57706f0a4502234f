//! The endpoints file, read again whenever it changes.
//!
//! It is read once a second and compared by content. That notices edits in place, renames and
//! swapped symbolic links on every file system; times and sizes alone miss some of these.

use super::Cluster;
use crate::EndpointsFile;
use std::{hash::BuildHasher, path::Path, sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::Instant};

/// How often it is read.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Larger files are rejected.
const MAX_FILE: u64 = 4 << 20;

impl Cluster {
    /// Reads the endpoints file, if there is one, and applies it if it changed. A missing or
    /// invalid file changes nothing, and is logged once.
    pub(super) async fn read_file(self: Arc<Self>) {
        let file = self.plan().endpoints_file.clone();
        let Some(EndpointsFile { path, read: parse }) = file else {
            return;
        };
        let (file, cluster) = (path.display().to_string(), &self.name);
        // A hanging file system must not block other tasks.
        let read = spawn_blocking(move || values::read_text(&path, MAX_FILE)).await;
        let read = read.unwrap_or_else(|error| Err(error.into()));
        let text = read.map_err(|error| format!("{file}: can't read this file: {error}"));
        let seen = match &text {
            Ok(text) => Ok(foldhash::fast::FixedState::default().hash_one(text)),
            Err(error) => Err(error.clone()),
        };
        let news = {
            let mut table = self.names.lock();
            if !table.reads_file {
                return;
            }
            table.file_due = Some(Instant::now() + INTERVAL);
            table.file_seen.replace(seen.clone()) != Some(seen)
        };
        if !news {
            return;
        }
        let endpoints = text.and_then(|text| parse(&text, Path::new(&file)));
        match endpoints {
            Ok(endpoints) => {
                tracing::info!(%cluster, file, endpoints = endpoints.len(), "read the endpoints");
                self.names.lock().file_error = None;
                self.set_discovered(endpoints);
            }
            Err(error) => {
                let message = "the file of endpoints is wrong: keeping those known";
                tracing::error!(%cluster, "{message}\n{error}");
                self.names.lock().file_error = Some(error);
            }
        }
    }
}
