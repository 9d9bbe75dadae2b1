//! The sample database of the demo, and its Backup.

use serde_json::{Value, json};

use crate::domain::problem::{About, Code, Problem};
use crate::sim::Cluster;
use crate::sim::api_server::{Caller, Preconditions};

/// Stillpoint's own namespace.
pub const OWN_NAMESPACE: &str = "stillpoint";
pub const BACKUP: &str = "nightly";
/// Namespace of the sample database.
const NAMESPACE: &str = "shop";
const CLAIMS: &str = "persistentvolumeclaims";
/// PVCs of the database, in the order in which `--members` uses them.
const DATABASE: [&str; 3] = ["data", "wal", "tablespace"];

/// Creates the sample with the given number of volumes in the cluster, and waits until all PVCs are bound.
pub async fn load(cluster: &Cluster, members: usize) {
    cluster.load_sample();
    let hand = cluster.api().caller("kubectl");
    for surplus in DATABASE.iter().skip(members) {
        // The sample has just created this PVC, so the delete cannot fail.
        let _ = hand.delete(CLAIMS, Some(NAMESPACE), surplus, Preconditions::default());
    }
    for number in DATABASE.len() + 1..=members {
        let _ = hand.create(CLAIMS, tablespace(number - DATABASE.len() + 1));
    }
    let mut changes = hand.watch(CLAIMS);
    while !all_bound(&hand) {
        changes.next().await;
    }
}

fn tablespace(number: usize) -> Value {
    json!({
        "metadata": {
            "name": format!("tablespace-{number}"),
            "namespace": NAMESPACE,
            "labels": {"velero.io/volume-group": "orders-db"},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "csi-hostpath-sc",
            "resources": {"requests": {"storage": "10Gi"}},
        },
    })
}

fn all_bound(hand: &Caller) -> bool {
    let claims = hand.list(CLAIMS, Some(NAMESPACE), &Default::default()).unwrap_or_default();
    claims
        .iter()
        .all(|claim| claim["status"]["phase"] == "Bound" && claim["metadata"]["deletionTimestamp"].is_null())
}

pub fn request(hand: &Caller) -> Result<(), Problem> {
    let backup = json!({
        "apiVersion": "velero.io/v1",
        "kind": "Backup",
        "metadata": {"name": BACKUP, "namespace": OWN_NAMESPACE},
        "spec": {"includedNamespaces": [NAMESPACE]},
    });
    hand.create("backups", backup).map(|_| ()).map_err(|status| {
        let about = About::new("Backup", OWN_NAMESPACE, BACKUP);
        Problem::new(
            Code::Internal,
            about,
            status.message,
            "this is a defect of the embedded cluster: report it",
        )
    })
}
