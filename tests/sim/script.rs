//! Scripts of a client: its calls on a ready group, one after the other.
//!
//! Each call takes 10 ms, as measured. Every step is idempotent: it reads first, and writes only what is
//! missing.

use std::time::Duration;

use serde_json::{Value, json};
use stillpoint::sim::Config;
use tokio::time::sleep;

use crate::lab::{
    AS_SOURCE, CLASS, CLASSES, CONTENTS, GROUP, GROUP_CONTENTS, GROUPS, IN_GROUP, Lab, NAMESPACE, SNAPSHOTS,
    has_finalizer, is_deleting, owners, uid,
};
use crate::table::Leftovers;

/// The agent that is frozen and restarted.
pub const CONTROLLER: &str = "snapshot-controller";
pub const ALL: usize = usize::MAX;

/// One step of a script. A number is the number of members that it applies to.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Removes the default annotation from the VolumeSnapshotClass.
    NoDefaultClass,
    DeleteClass,
    /// Clears `status.volumeGroupSnapshotName`.
    ClearNames(usize),
    /// Restores `status.volumeGroupSnapshotName`.
    RestoreNames(usize),
    /// Removes owner references and finalizers.
    Strip,
    /// Removes owner references and both finalizers of members, and sets the class, in one patch per member.
    Release(usize),
    /// As [`Release`](Step::Release), but without removing as-source-protection.
    ReleaseKeepingSource,
    /// Sets the deletionPolicy of the group's content.
    GroupPolicy(&'static str),
    /// Sets the deletionPolicy of the members' contents.
    MemberPolicies(&'static str),
    DeleteGroup,
    /// With `propagationPolicy: Orphan`.
    DeleteGroupOrphaning,
    DeleteGroupContent,
    DeleteMember,
    DeleteMembers,
    DeleteNamespace,
    /// Waits for as-source-protection on every member that is not terminating.
    WaitForSource,
    WaitForGroupDeletion,
    WaitForGroupContentDeletion,
    Wait(u64),
    Freeze,
    Unfreeze,
    Restart,
}

/// Sets both policies to Retain, the last step before a release.
pub const RETAIN: [Step; 2] = [Step::GroupPolicy("Retain"), Step::MemberPolicies("Retain")];

/// The steps of the release that write or wait. Reading again (steps 4 and 8) changes nothing.
pub const RELEASE: [Step; 8] = [
    Step::ClearNames(ALL),
    Step::Release(ALL),
    Step::WaitForSource,
    Step::DeleteGroup,
    Step::WaitForGroupDeletion,
    Step::DeleteGroupContent,
    Step::WaitForGroupContentDeletion,
    Step::RestoreNames(ALL),
];

/// Creates a cluster with a ready group of `members` members.
pub async fn lab_with_ready_group(members: usize, config: Config) -> Lab {
    let lab = Lab::new(members, config).await;
    lab.create_ready_group(members).await;
    lab.wait_until_idle().await;
    lab
}

/// Runs the steps in order. Returns false if a wait timed out; the script continues after that.
pub async fn run(lab: &Lab, steps: &[Step]) -> bool {
    let mut complete = true;
    for step in steps {
        complete &= execute(lab, *step).await;
    }
    complete
}

/// The remaining objects once the controllers are idle.
pub async fn leftovers(lab: &Lab) -> Leftovers {
    lab.wait_until_idle().await;
    let ledger = lab.cluster.ledger();
    Leftovers {
        snapshots: lab.snapshots().iter().filter(|one| !is_deleting(one)).count(),
        contents: lab.contents().len(),
        physical: ledger.physical_snapshots,
        phantoms: ledger.phantom,
    }
}

/// Number of these uids that are still ready, not terminating and without owner.
pub fn count_survivors(lab: &Lab, before: &[String]) -> usize {
    let has_survived = |one: &Value| {
        before.iter().any(|known| known == uid(one))
            && one["status"]["readyToUse"] == true
            && !is_deleting(one)
            && owners(one) == 0
    };
    lab.snapshots().iter().filter(|one| has_survived(one)).count()
}

pub fn uids(lab: &Lab) -> Vec<String> {
    lab.snapshots().iter().map(|one| uid(one).to_owned()).collect()
}

async fn execute(lab: &Lab, step: Step) -> bool {
    match step {
        Step::NoDefaultClass => {
            let class = lab.get(CLASSES, CLASS).expect("deployed");
            lab.patch(CLASSES, &class, json!({"metadata": {"annotations": null}}));
        }
        Step::DeleteClass => delete_all(lab, CLASSES).await,
        Step::ClearNames(count) => set_names(lab, count, Value::Null).await,
        Step::RestoreNames(count) => set_names(lab, count, json!(GROUP)).await,
        Step::Strip => {
            for member in lab.snapshots() {
                lab.patch(
                    SNAPSHOTS,
                    &member,
                    json!({"metadata": {"ownerReferences": null, "finalizers": null}}),
                );
                wait_for_call().await;
            }
        }
        Step::Release(count) => release(lab, count, Value::Null).await,
        Step::ReleaseKeepingSource => release(lab, ALL, json!([AS_SOURCE])).await,
        Step::GroupPolicy(policy) => set_policies(lab, GROUP_CONTENTS, policy).await,
        Step::MemberPolicies(policy) => set_policies(lab, CONTENTS, policy).await,
        Step::DeleteGroup => delete_all(lab, GROUPS).await,
        Step::DeleteGroupOrphaning => {
            let path = format!(
                "/apis/groupsnapshot.storage.k8s.io/v1/namespaces/{NAMESPACE}/{GROUPS}/{GROUP}?propagationPolicy=Orphan"
            );
            assert_eq!(lab.http("DELETE", &path, None).await.status, 200);
            wait_for_call().await;
        }
        Step::DeleteGroupContent => delete_all(lab, GROUP_CONTENTS).await,
        Step::DeleteMember => lab.delete(SNAPSHOTS, &lab.snapshots()[0]),
        Step::DeleteMembers => delete_all(lab, SNAPSHOTS).await,
        Step::DeleteNamespace => {
            lab.delete("namespaces", &json!({"metadata": {"name": NAMESPACE}}));
        }
        Step::WaitForSource => return lab.becomes_true(120, is_source_restored).await,
        Step::WaitForGroupDeletion => return lab.becomes_true(120, |lab| lab.list(GROUPS).is_empty()).await,
        Step::WaitForGroupContentDeletion => {
            return lab.becomes_true(120, |lab| lab.list(GROUP_CONTENTS).is_empty()).await;
        }
        Step::Wait(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
        Step::Freeze => lab.cluster.set_frozen(CONTROLLER, true),
        Step::Unfreeze => lab.cluster.set_frozen(CONTROLLER, false),
        Step::Restart => lab.cluster.restart(CONTROLLER),
    }
    true
}

async fn wait_for_call() {
    sleep(Duration::from_millis(10)).await;
}

async fn delete_all(lab: &Lab, plural: &str) {
    for object in lab.list(plural) {
        lab.delete(plural, &object);
        wait_for_call().await;
    }
}

async fn set_names(lab: &Lab, count: usize, name: Value) {
    for member in lab.snapshots().into_iter().take(count) {
        if member["status"]["volumeGroupSnapshotName"] != name {
            lab.patch_status(SNAPSHOTS, &member, json!({"status": {"volumeGroupSnapshotName": name}}));
            wait_for_call().await;
        }
    }
}

async fn release(lab: &Lab, count: usize, finalizers: Value) {
    let patch = json!({
        "metadata": {"ownerReferences": null, "finalizers": finalizers},
        "spec": {"volumeSnapshotClassName": CLASS},
    });
    for member in lab.snapshots().into_iter().take(count) {
        if owners(&member) > 0 || has_finalizer(&member, IN_GROUP) {
            lab.patch(SNAPSHOTS, &member, patch.clone());
            wait_for_call().await;
        }
    }
}

async fn set_policies(lab: &Lab, plural: &str, policy: &str) {
    for content in lab.list(plural) {
        if content["spec"]["deletionPolicy"] != policy {
            lab.patch(plural, &content, json!({"spec": {"deletionPolicy": policy}}));
            wait_for_call().await;
        }
    }
}

fn is_source_restored(lab: &Lab) -> bool {
    let is_unprotected = |one: &Value| !is_deleting(one) && !has_finalizer(one, AS_SOURCE);
    !lab.snapshots().iter().any(is_unprotected)
}
