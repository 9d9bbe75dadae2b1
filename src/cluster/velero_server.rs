//! Detects a Velero server in a namespace. The Backups of such a namespace belong to Velero and not to
//! Stillpoint.
//!
//! Velero's own installer and its chart both run the command `velero server` in a Deployment (Velero,
//! `pkg/install/deployment.go`). A BackupStorageLocation alone does not prove a server: Stillpoint's data
//! mover branch needs one, too.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;

use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::domain::problem::{About, Problem};
use kube::core::params::ListParams;
use serde::Deserialize;

/// Velero's objects in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VeleroTraces {
    /// Name of the Deployment that runs the server.
    pub server: Option<String>,
    /// Names of the BackupStorageLocations.
    pub locations: Vec<String>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    items: Vec<NamedItem>,
}

#[derive(Deserialize)]
struct NamedItem {
    metadata: NamedMeta,
}

#[derive(Deserialize)]
struct NamedMeta {
    name: String,
}

impl Adapter {
    /// Searches a namespace for a Velero server. Where the kinds are not served there is none.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn velero_traces(&self, namespace: &str) -> Result<VeleroTraces, Problem> {
        let deployments = self.list::<Deployment>(&(), namespace, "").await?;
        let server = deployments.into_iter().find(runs_server).and_then(|found| found.metadata.name);
        Ok(VeleroTraces { server, locations: self.storage_locations(namespace).await? })
    }

    async fn storage_locations(&self, namespace: &str) -> Result<Vec<String>, Problem> {
        let about = About::new("BackupStorageLocation", namespace, "");
        let path = format!("/apis/velero.io/v1/namespaces/{namespace}/backupstoragelocations");
        let request = kube::core::Request::new(path).list(&ListParams::default());
        let request =
            request.map_err(|error| classify::problem(&kube::Error::BuildRequest(error), about.clone()))?;
        match self.send::<Named>(request).await {
            Ok(found) => Ok(found.items.into_iter().map(|item| item.metadata.name).collect()),
            Err(error) if classify::is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(classify::problem(&error, about)),
        }
    }
}

fn runs_server(deployment: &Deployment) -> bool {
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    template.is_some_and(|pod| pod.containers.iter().any(is_server))
}

fn is_server(container: &Container) -> bool {
    let words = || container.command.iter().flatten().chain(container.args.iter().flatten());
    let is_velero = |word: &String| word.rsplit('/').next() == Some("velero");
    let velero = container.name == "velero" || words().any(is_velero);
    velero && words().any(|word| word == "server")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, command: &[&str], args: &[&str]) -> Container {
        let list = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        Container { name: name.to_owned(), command: list(command), args: list(args), ..Container::default() }
    }

    #[test]
    fn only_the_velero_server_counts() {
        assert!(is_server(&container("velero", &["/velero"], &["server", "--features="])));
        assert!(is_server(&container("main", &["/usr/local/bin/velero", "server"], &[])));
        assert!(!is_server(&container("node-agent", &["/velero"], &["node-agent", "server-less"])));
        assert!(!is_server(&container("web", &["/bin/http"], &["server"])));
        assert!(!is_server(&container("stillpoint", &["/stillpoint"], &["run"])));
    }
}
