//! What must be true after every run, by name (DESIGN: drills).

use std::collections::BTreeSet;

use crate::drill::stage::Stage;

/// Everything that holds once the Backup is `Completed`: `count` members in `namespace`.
pub async fn completed(stage: &Stage, namespace: &str, count: usize) -> Result<(), String> {
    let mut broken = Vec::new();
    let mut hold = |name: &str, holds: bool, shown: String| {
        if !holds {
            broken.push(format!("{name}: {shown}"));
        }
    };
    let snapshots = stage.list("volumesnapshots", Some(namespace));
    hold("as many members as planned", snapshots.len() == count, format!("{} of {count}", snapshots.len()));
    let claims: BTreeSet<String> = snapshots
        .iter()
        .filter_map(|snapshot| {
            // A rebuilt member has its content for a source, and only the label tells its claim.
            snapshot["metadata"]["labels"]["stillpoint.dev/pvc"].as_str().map(str::to_owned)
        })
        .collect();
    hold("each claim has its own member", claims.len() == count, format!("{claims:?}"));
    for snapshot in &snapshots {
        let meta = &snapshot["metadata"];
        let name = meta["name"].as_str().unwrap_or_default();
        hold("member ready", snapshot["status"]["readyToUse"] == true, name.to_owned());
        hold("member not owned", meta["ownerReferences"].is_null(), name.to_owned());
        hold("member not terminating", meta["deletionTimestamp"].is_null(), name.to_owned());
        hold(
            "member carries its receipt",
            meta["annotations"]["stillpoint.dev/receipt"].is_string(),
            name.to_owned(),
        );
        hold("member carries its run", meta["labels"]["stillpoint.dev/run"].is_string(), name.to_owned());
    }
    for content in stage.list("volumesnapshotcontents", None) {
        let name = content["metadata"]["name"].as_str().unwrap_or_default();
        hold("content retains", content["spec"]["deletionPolicy"] == "Retain", name.to_owned());
        hold(
            "content carries the receipt",
            content["metadata"]["annotations"]["stillpoint.dev/receipt"].is_string(),
            name.to_owned(),
        );
    }
    let left = stage.group_objects();
    hold("no group object of a finished run", left == 0, left.to_string());
    let ledger = stage.cluster.ledger();
    hold("one cut per run", ledger.physical_snapshots == count, format!("{ledger:?}"));
    hold("nothing leaked", ledger.leaked == 0, format!("{ledger:?}"));
    hold("no phantom", ledger.phantom == 0, format!("{ledger:?}"));
    let shown = stage.list("groupsnapshots", Some(namespace));
    let done = shown.iter().all(|shown| shown["status"]["state"] == "Completed");
    hold("every GroupSnapshot says Completed", done && !shown.is_empty(), format!("{shown:#?}"));
    journal(stage, &mut hold).await;
    ended(broken)
}

/// Waits until nothing is being deleted any more. A VolumeSnapshot that somebody deleted while its group lived goes by
/// the controller's backoff only, up to five minutes after the group; the run does not wait for that.
pub async fn settled(stage: &Stage) {
    stage
        .comes(|stage| {
            let snapshots = stage.list("volumesnapshots", None);
            snapshots.iter().all(|snapshot| snapshot["metadata"]["deletionTimestamp"].is_null())
        })
        .await;
}

/// Everything that holds once a run was abandoned after its pivot: the storage stands and is owned or written down.
pub async fn kept(stage: &Stage, namespace: &str, count: usize) -> Result<(), String> {
    let mut broken = Vec::new();
    let mut hold = |name: &str, holds: bool, shown: String| {
        if !holds {
            broken.push(format!("{name}: {shown}"));
        }
    };
    let ledger = stage.cluster.ledger();
    hold("the storage stands", ledger.physical_snapshots == count, format!("{ledger:?}"));
    hold("no phantom", ledger.phantom == 0, format!("{ledger:?}"));
    let contents = ["volumesnapshotcontents", "volumegroupsnapshotcontents"];
    let contents: Vec<_> = contents.iter().flat_map(|plural| stage.list(plural, None)).collect();
    let mut written = BTreeSet::new();
    for content in &contents {
        let name = content["metadata"]["name"].as_str().unwrap_or_default();
        hold("content retains", content["spec"]["deletionPolicy"] == "Retain", name.to_owned());
        written.extend(content["status"]["snapshotHandle"].as_str().map(str::to_owned));
    }
    for shown in stage.list("groupsnapshots", Some(namespace)) {
        let status = &shown["status"];
        hold("it says Failed", status["state"] == "Failed", format!("{status:#}"));
        hold("nobody claims that members are ready", status["membersReady"].is_null(), format!("{status:#}"));
        let members = status["receipt"]["members"].as_array().cloned().unwrap_or_default();
        hold("the receipt has every member", members.len() == count, format!("{status:#}"));
        let handles: BTreeSet<String> = members
            .iter()
            .filter_map(|member| member["snapshotHandle"].as_str().map(str::to_owned))
            .collect();
        hold("each with a handle of its own", handles.len() == count, format!("{handles:?}"));
        let others: Vec<_> = written.difference(&handles).collect();
        hold("what stands is what was received", others.is_empty(), format!("{others:?}"));
    }
    journal(stage, &mut hold).await;
    ended(broken)
}

/// Everything that holds once a run was undone: a clean cluster.
pub async fn undone(stage: &Stage, namespace: &str) -> Result<(), String> {
    let mut broken = Vec::new();
    let mut hold = |name: &str, holds: bool, shown: String| {
        if !holds {
            broken.push(format!("{name}: {shown}"));
        }
    };
    for plural in
        ["volumegroupsnapshots", "volumegroupsnapshotcontents", "volumesnapshots", "volumesnapshotcontents"]
    {
        let left = stage.list(plural, None);
        hold("nothing of the run is left", left.is_empty(), format!("{plural}: {left:#?}"));
    }
    let ledger = stage.cluster.ledger();
    hold("the storage is freed", ledger.physical_snapshots == 0, format!("{ledger:?}"));
    let shown = stage.list("groupsnapshots", Some(namespace));
    let failed = shown.iter().all(|shown| shown["status"]["state"] == "Failed");
    hold("every GroupSnapshot says Failed", failed && !shown.is_empty(), format!("{shown:#?}"));
    journal(stage, &mut hold).await;
    ended(broken)
}

async fn journal(stage: &Stage, hold: &mut impl FnMut(&str, bool, String)) {
    let entries = stage.entries().await;
    let checked = crate::journal::chain::check(entries.iter().cloned());
    hold("the chain is intact", checked.is_ok(), format!("{checked:?}"));
    let report = crate::audit::replay(&entries);
    hold("a replay decides the same", report.different.is_empty(), format!("{:#?}", report.different));
    hold("a replay has something to decide", report.decisions > 0, report.decisions.to_string());
}

fn ended(broken: Vec<String>) -> Result<(), String> {
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}
