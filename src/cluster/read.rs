//! Reads from the API server: never from its cache, never from ours.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Resource;
use kube::core::params::{GetParams, ListParams};
use kube::core::{ObjectList, Request};
use serde::de::DeserializeOwned;

use crate::api::Backup;
use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::domain::problem::{About, Problem};

const PAGE: u32 = 500;

/// Selects objects of a kind.
#[derive(Debug, Clone, Copy)]
pub enum Selected<'a> {
    All,
    /// Objects with these labels.
    Labelled(&'a str),
    /// The object of this name.
    Named(&'a str),
}

/// A list, and the version of the store that it shows.
#[derive(Debug)]
pub struct Listed<K> {
    pub objects: Vec<K>,
    /// resourceVersion of the list; `None` if it is not a number and cannot be compared.
    pub version: Option<u64>,
}

impl Adapter {
    /// One object; `None` when there is none of that name. A quorum read of etcd, and about 60 times faster
    /// than a consistent list.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn get<K>(
        &self,
        dynamic: &K::DynamicType,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, Problem>
    where
        K: Resource + DeserializeOwned,
    {
        let about = About::new(&K::kind(dynamic), namespace, name);
        let requests = Request::new(K::url_path(dynamic, scoped(namespace)));
        let request = requests.get(name, &GetParams::default()).map_err(|error| malformed(error, &about))?;
        // The semaphore is never closed. Without a permit the read is merely not counted.
        let _permit = self.inner.reads.acquire().await;
        match self.send::<K>(request).await {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                Ok(Some(object))
            }
            Err(error) if classify::is_missing(&error) => Ok(None),
            Err(error) => Err(classify::problem(&error, about)),
        }
    }

    /// All objects of a namespace (empty: of the cluster) with these labels (empty: all), from one state of
    /// the store.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn list<K>(
        &self,
        dynamic: &K::DynamicType,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<K>, Problem>
    where
        K: Resource + DeserializeOwned + Clone,
    {
        let selected = if selector.is_empty() { Selected::All } else { Selected::Labelled(selector) };
        Ok(self.list_as_of(dynamic, namespace, selected).await?.objects)
    }

    /// These objects of a namespace (empty: of the cluster), from one state of the store, and the version of
    /// that state.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn list_as_of<K>(
        &self,
        dynamic: &K::DynamicType,
        namespace: &str,
        selected: Selected<'_>,
    ) -> Result<Listed<K>, Problem>
    where
        K: Resource + DeserializeOwned + Clone,
    {
        let about = About::new(&K::kind(dynamic), namespace, "");
        let requests = Request::new(K::url_path(dynamic, scoped(namespace)));
        let mut params = ListParams::default().limit(PAGE);
        match selected {
            Selected::All => {}
            Selected::Labelled(selector) => params.label_selector = Some(selector.to_owned()),
            Selected::Named(name) => params.field_selector = Some(format!("metadata.name={name}")),
        }
        // The semaphore is never closed. Without a permit the read is merely not counted.
        let _permit = self.inner.reads.acquire().await;
        let mut objects = Vec::new();
        loop {
            let request = requests.list(&params).map_err(|error| malformed(error, &about))?;
            let page: ObjectList<K> =
                self.send(request).await.map_err(|error| classify::problem(&error, about.clone()))?;
            objects.extend(page.items.into_iter().map(|mut object| {
                object.meta_mut().managed_fields = None;
                object
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                // Every page shows the state of the first.
                None => {
                    let version = page.metadata.resource_version.and_then(|version| version.parse().ok());
                    return Ok(Listed { objects, version });
                }
            }
        }
    }

    /// A Backup; `None` when there is none of that name.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn backup(&self, namespace: &str, name: &str) -> Result<Option<Backup>, Problem> {
        Ok(self.list_as_of::<Backup>(&(), namespace, Selected::Named(name)).await?.objects.pop())
    }

    /// The pods of a namespace: one list per Backup and namespace, not a watch.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn pods(&self, namespace: &str) -> Result<Vec<Pod>, Problem> {
        self.list(&(), namespace, "").await
    }

    /// A ConfigMap, e.g. with volume policies.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, Problem> {
        self.get(&(), namespace, name).await
    }
}

fn scoped(namespace: &str) -> Option<&str> {
    Some(namespace).filter(|namespace| !namespace.is_empty())
}

fn malformed(error: kube::core::request::Error, about: &About) -> Problem {
    classify::problem(&kube::Error::BuildRequest(error), about.clone())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Response;
    use kube::Client;
    use kube::client::Body;

    use super::*;
    use crate::domain::limits;

    /// After a start every unfinished run may read at the same time, and each call has its own connection.
    #[tokio::test]
    async fn limits_concurrent_reads_and_completes_all() {
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = (under_way.clone(), most.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (under_way, most) = counted.clone();
            async move {
                most.fetch_max(1 + under_way.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                under_way.fetch_sub(1, Ordering::Relaxed);
                let kind = match request.uri().path() {
                    "/apis" => "APIGroupList",
                    path if path.ends_with("configmaps") => "ConfigMapList",
                    path if path.contains("configmaps/") => "ConfigMap",
                    _ => "APIResourceList",
                };
                let empty = format!(
                    r#"{{"kind":"{kind}","groups":[],"resources":[],"groupVersion":"","metadata":{{}},"items":[]}}"#
                );
                Ok::<_, Infallible>(Response::new(Body::from(empty.into_bytes())))
            }
        });
        let adapter = Adapter::connect(Client::new(service, "default")).await.expect("a cluster");
        most.store(0, Ordering::Relaxed);
        let reads = (0..3 * limits::READS_IN_ALL).map(|_| adapter.list::<ConfigMap>(&(), "shop", ""));
        let gets = (0..limits::READS_IN_ALL).map(|_| adapter.get::<ConfigMap>(&(), "shop", "policies"));
        let all = (futures::future::join_all(reads), futures::future::join_all(gets));
        let (answers, gotten) = futures::future::join(all.0, all.1).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(Vec::is_empty)), "{answers:?}");
        assert!(gotten.iter().all(|answer| answer.as_ref().is_ok_and(Option::is_some)), "{gotten:?}");
        assert_eq!(most.load(Ordering::Relaxed), limits::READS_IN_ALL);
    }
}
