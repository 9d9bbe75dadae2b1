//! Finds Backups of one name in the whole cluster. This is the only read of Backups outside Stillpoint's own
//! namespace.

use kube::Resource;
use kube::core::params::ListParams;
use serde::Deserialize;

use crate::api::Backup;
use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::domain::problem::{About, Problem};

/// Only names and namespaces: the spec of another Backup may have an unknown form.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    metadata: Meta,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Meta {
    name: String,
    namespace: String,
}

impl Adapter {
    /// The namespaces that have a Backup of this name, in order.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn backups_named(&self, name: &str) -> Result<Vec<String>, Problem> {
        let about = About::new("Backup", "", name);
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let request = kube::core::Request::new(Backup::url_path(&(), None)).list(&params);
        let request =
            request.map_err(|error| classify::problem(&kube::Error::BuildRequest(error), about.clone()))?;
        let found: Found = self.send(request).await.map_err(|error| classify::problem(&error, about))?;
        let of_name = found.items.into_iter().map(|item| item.metadata).filter(|meta| meta.name == name);
        let mut namespaces: Vec<String> = of_name.map(|meta| meta.namespace).collect();
        namespaces.sort();
        Ok(namespaces)
    }
}
