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
use crate::table::Left;

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
    NamesBack(usize),
    /// Removes owner references and finalizers.
    Strip,
    /// Removes owner references and both finalizers of members, and sets the class, in one patch per member.
    Release(usize),
    /// As [`Release`](Step::Release), but keeps as-source-protection.
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
    UntilSourceIsBack,
    UntilGroupIsGone,
    UntilGroupContentIsGone,
    Wait(u64),
    Freeze,
    Thaw,
    Restart,
}

/// Sets both policies to Retain, the last step before a release.
pub const RETAIN: [Step; 2] = [Step::GroupPolicy("Retain"), Step::MemberPolicies("Retain")];

/// The steps of the release that write or wait. Reading again (steps 4 and 8) changes nothing.
pub const RELEASE: [Step; 8] = [
    Step::ClearNames(ALL),
    Step::Release(ALL),
    Step::UntilSourceIsBack,
    Step::DeleteGroup,
    Step::UntilGroupIsGone,
    Step::DeleteGroupContent,
    Step::UntilGroupContentIsGone,
    Step::NamesBack(ALL),
];

/// Creates a cluster with a ready group of `members` members.
pub async fn ready(members: usize, config: Config) -> Lab {
    let lab = Lab::new(members, config).await;
    lab.create_ready_group(members).await;
    lab.settle().await;
    lab
}

/// Runs the steps in order. Returns false if a wait timed out; the script continues after that.
pub async fn run(lab: &Lab, steps: &[Step]) -> bool {
    let mut complete = true;
    for step in steps {
        complete &= act(lab, *step).await;
    }
    complete
}

/// The remaining objects once the controllers are idle.
pub async fn left(lab: &Lab) -> Left {
    lab.settle().await;
    let ledger = lab.cluster.ledger();
    Left {
        snapshots: lab.snapshots().iter().filter(|one| !is_deleting(one)).count(),
        contents: lab.contents().len(),
        physical: ledger.physical_snapshots,
        phantoms: ledger.phantom,
    }
}

/// Number of these uids that are still ready, not terminating and without owner.
pub fn kept(lab: &Lab, before: &[String]) -> usize {
    let is_kept = |one: &Value| {
        before.iter().any(|known| known == uid(one))
            && one["status"]["readyToUse"] == true
            && !is_deleting(one)
            && owners(one) == 0
    };
    lab.snapshots().iter().filter(|one| is_kept(one)).count()
}

/// The uids of the VolumeSnapshots.
pub fn uids(lab: &Lab) -> Vec<String> {
    lab.snapshots().iter().map(|one| uid(one).to_owned()).collect()
}

async fn act(lab: &Lab, step: Step) -> bool {
    match step {
        Step::NoDefaultClass => {
            let class = lab.get(CLASSES, CLASS).expect("deployed");
            lab.patch(CLASSES, &class, json!({"metadata": {"annotations": null}}));
        }
        Step::DeleteClass => delete_all(lab, CLASSES).await,
        Step::ClearNames(count) => set_names(lab, count, Value::Null).await,
        Step::NamesBack(count) => set_names(lab, count, json!(GROUP)).await,
        Step::Strip => {
            for member in lab.snapshots() {
                lab.patch(
                    SNAPSHOTS,
                    &member,
                    json!({"metadata": {"ownerReferences": null, "finalizers": null}}),
                );
                call().await;
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
            call().await;
        }
        Step::DeleteGroupContent => delete_all(lab, GROUP_CONTENTS).await,
        Step::DeleteMember => lab.delete(SNAPSHOTS, &lab.snapshots()[0]),
        Step::DeleteMembers => delete_all(lab, SNAPSHOTS).await,
        Step::DeleteNamespace => {
            lab.delete("namespaces", &json!({"metadata": {"name": NAMESPACE}}));
        }
        Step::UntilSourceIsBack => return lab.comes(120, source_is_back).await,
        Step::UntilGroupIsGone => return lab.comes(120, |lab| lab.list(GROUPS).is_empty()).await,
        Step::UntilGroupContentIsGone => {
            return lab.comes(120, |lab| lab.list(GROUP_CONTENTS).is_empty()).await;
        }
        Step::Wait(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
        Step::Freeze => lab.cluster.set_frozen(CONTROLLER, true),
        Step::Thaw => lab.cluster.set_frozen(CONTROLLER, false),
        Step::Restart => lab.cluster.restart(CONTROLLER),
    }
    true
}

async fn call() {
    sleep(Duration::from_millis(10)).await;
}

async fn delete_all(lab: &Lab, plural: &str) {
    for object in lab.list(plural) {
        lab.delete(plural, &object);
        call().await;
    }
}

async fn set_names(lab: &Lab, count: usize, name: Value) {
    for member in lab.snapshots().into_iter().take(count) {
        if member["status"]["volumeGroupSnapshotName"] != name {
            lab.patch_status(SNAPSHOTS, &member, json!({"status": {"volumeGroupSnapshotName": name}}));
            call().await;
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
            call().await;
        }
    }
}

async fn set_policies(lab: &Lab, plural: &str, policy: &str) {
    for content in lab.list(plural) {
        if content["spec"]["deletionPolicy"] != policy {
            lab.patch(plural, &content, json!({"spec": {"deletionPolicy": policy}}));
            call().await;
        }
    }
}

fn source_is_back(lab: &Lab) -> bool {
    let waits = |one: &Value| !is_deleting(one) && !has_finalizer(one, AS_SOURCE);
    !lab.snapshots().iter().any(waits)
}
