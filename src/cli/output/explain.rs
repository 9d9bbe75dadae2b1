//! The meanings of the codes, for `stillpoint explain CODE`. Each code has a title of one line and one
//! paragraph.
//!
//! The match has no catch-all: a new code does not compile until it is explained.

use crate::domain::problem::Code;

/// All codes, in numeric order.
pub const CODES: &[Code] = &[
    Code::Unsupported,
    Code::InvalidBackup,
    Code::NamespaceMissing,
    Code::ClaimUnfit,
    Code::SeveralDrivers,
    Code::GroupClass,
    Code::SnapshotClass,
    Code::TooManyMembers,
    Code::GroupApiMissing,
    Code::ForeignObject,
    Code::MembersDiffer,
    Code::DriverCannot,
    Code::DriverFailed,
    Code::CutTimeout,
    Code::ReadyTimeout,
    Code::DeletedByOther,
    Code::Refused,
    Code::PlanOutdated,
    Code::Overtaken,
    Code::ContentLost,
    Code::PermissionsMissing,
    Code::Abandoned,
    Code::AbandonedRetained,
    Code::NotAskable,
    Code::NotAtomic,
    Code::JournalCorrupt,
    Code::JournalLocked,
    Code::JournalNewer,
    Code::JournalIo,
    Code::JournalMissing,
    Code::UnknownRun,
    Code::JournalLost,
    Code::BindingRefused,
    Code::ClusterWentBack,
    Code::VeleroNamespace,
    Code::Unreachable,
    Code::Usage,
    Code::Internal,
];

/// Parses a code from user input: `SP0007`, `sp7` or `7`.
pub fn parse_code(text: &str) -> Option<Code> {
    let lower = text.trim().to_lowercase();
    let number: u16 = lower.strip_prefix("sp").unwrap_or(&lower).parse().ok()?;
    CODES.iter().copied().find(|code| *code as u16 == number)
}

/// The code in one line, without a capital letter and a full stop.
pub fn title(code: Code) -> &'static str {
    texts(code).0
}

/// The code in one paragraph: when it occurs, what Stillpoint has done by then, and how to fix it.
pub fn explain(code: Code) -> &'static str {
    texts(code).1
}

/// All codes as a page of Markdown: `docs/errors.md`, and the output of `stillpoint explain` without a code.
pub fn page() -> String {
    let mut page =
        "# Errors\n\nEvery error has a code, which keeps its number and its meaning for ever.\n".to_owned();
    for code in CODES {
        page.push_str(&format!("\n## {code}: {}\n\n{}\n", title(*code), explain(*code)));
    }
    page
}

fn texts(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::Unsupported => (
            "this release does not do what the Backup asks for",
            "The Backup uses a field or a form of it that this release cannot serve, or one that Velero's Backup does \
             not have. Such a field is refused where ignoring it could cut something else than the user meant; a field \
             that has no bearing on the cut is ignored with a warning. Nothing was changed in the cluster. Remove or \
             change the field that the reason names and create the Backup again under a new name.",
        ),
        Code::InvalidBackup => (
            "the Backup is malformed or contradicts the cluster",
            "A field of the Backup cannot be read, for example a duration without a unit; or \
             spec.volumeGroupSnapshotLabelKey names a label that no PVC of the selected namespaces carries; or \
             spec.includedNamespaces names a namespace that its label velero.io/exclude-from-backup=true excludes. \
             Nothing was changed in the cluster for what the reason names. Correct the field or the label and create the \
             Backup again under a new name.",
        ),
        Code::NamespaceMissing => (
            "an included namespace does not exist, or is being deleted",
            "The Backup names a namespace that the cluster does not have. The groups of the other namespaces go on. \
             Create the namespace, or take its name out of spec.includedNamespaces. A group whose namespace is deleted \
             while it is cut is undone: its snapshots would go with the namespace.",
        ),
        Code::ClaimUnfit => (
            "a claim of the group cannot be snapshotted",
            "All members of a group are cut at one moment, so one unfit claim refuses the whole group: a claim that is \
             unbound, being deleted, excluded from the backup, on a volume that is not CSI, or on the same volume as \
             another member. Nothing was changed in the cluster. Correct the PVC, or take the group label off it and \
             snapshot the rest.",
        ),
        Code::SeveralDrivers => (
            "the volumes of one group belong to several drivers",
            "One cut is one call to one CSI driver; two drivers have no common moment. Nothing was changed in the \
             cluster. Give the claims of each driver a group label value of their own. Their snapshots are then \
             consistent within each group, not between groups.",
        ),
        Code::GroupClass => (
            "there is no, or no single, VolumeGroupSnapshotClass for the group",
            "The class is taken from the annotation velero.io/csi-volume-group-snapshot-class of the claims, else from \
             the annotation velero.io/csi-volumegroupsnapshot-class_<driver> of the Backup, else it is the one class of \
             the driver with the label velero.io/csi-volumegroupsnapshot-class=true. A named class must exist and be of \
             the driver, the claims must agree, and there must be exactly one labelled class. Where the driver has no \
             class, create one: docs/groups.md has an example. Nothing was changed in the cluster. Where the class is \
             deleted while its group is cut, the group is undone: without it the controllers never make the members \
             ready. Create the class again, and a Backup under a new name.",
        ),
        Code::SnapshotClass => (
            "there is no, or no single, VolumeSnapshotClass for the members",
            "When the group is released its members become ordinary snapshots, and an ordinary snapshot without a \
             class would be cut a second time or fail. So the class is settled before the cut: the annotation \
             velero.io/csi-volumesnapshot-class of the claims, else velero.io/csi-volumesnapshot-class_<driver> of the \
             Backup, else the class of the driver with the label velero.io/csi-volumesnapshot-class, else the \
             Kubernetes default of the driver, else its only class. Nothing was changed in the cluster.",
        ),
        Code::TooManyMembers => (
            "the group has too many members",
            "A group has at most 128 members. The snapshot-controller needs about two seconds for each at its default \
             rate, and drivers have limits of their own. Nothing was changed in the cluster. Divide the claims into \
             smaller groups by other label values.",
        ),
        Code::GroupApiMissing => (
            "the cluster does not serve groupsnapshot.storage.k8s.io",
            "Group snapshots need the CustomResourceDefinitions of external-snapshotter (v1, v1beta2 or v1beta1), a \
             snapshot-controller and a csi-snapshotter sidecar with the feature gate CSIVolumeGroupSnapshot, and a \
             driver with the capability CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT. Install them and \
             start the daemon again.",
        ),
        Code::ForeignObject => (
            "an object of the computed name is not ours",
            "Names are computed from the run, so an object of that name without the run's labels was made by another \
             client. Stillpoint neither changes nor adopts it. Look at who made it; delete or rename it if it is not \
             needed, then resume the run.",
        ),
        Code::MembersDiffer => (
            "the cut would not be, or was not, that of the planned members",
            "The snapshot-controller selects claims by label at its own moment. What it froze in the \
             VolumeGroupSnapshotContent is not exactly the plan, because a claim was labelled, unlabelled or replaced \
             in between. The cut is undone and its storage freed. Create the Backup again when the labels are settled.",
        ),
        Code::DriverCannot => (
            "the driver cannot cut groups",
            "The CSI driver answered Unimplemented or lacks the group capability. Stillpoint never falls back to single \
             snapshots, because they would not be of one moment. The attempt was undone. Use a driver that can cut \
             groups, or take the group label off the claims.",
        ),
        Code::DriverFailed => (
            "the driver failed",
            "The CSI driver answered with a permanent error. The sidecar would repeat the call \
             without end and each try may leave parts behind, so the attempt was undone after a short grace. Read the \
             driver's message in the reason and the log of its pods; look there for parts that it left on the storage.",
        ),
        Code::CutTimeout => (
            "the cut did not come in time",
            "Within csiSnapshotTimeout the driver did not return the handle of the group and of every member. The \
             attempt was undone and its storage freed. Look at the driver and the csi-snapshotter sidecar, or raise \
             spec.csiSnapshotTimeout.",
        ),
        Code::ReadyTimeout => (
            "the members did not become ready in time",
            "The cut was made, but within itemOperationTimeout not every member became ready. The attempt was undone \
             and its storage freed. The snapshot-controller needs about two seconds a member at its default rate; \
             start it with a higher --kube-api-qps and --kube-api-burst, or raise spec.itemOperationTimeout.",
        ),
        Code::DeletedByOther => (
            "another client deleted an object of the run",
            "A VolumeGroupSnapshot, a content or a member vanished or is being deleted, and Stillpoint did not do it. \
             Before the pivot the run is undone, and the driver is asked by the recorded handles whether it still has the \
             storage; behind it, lost members are rebuilt from these handles as far as the storage has them. Find the \
             one who deletes: a controller, a policy, or the deletion of the namespace.",
        ),
        Code::Refused => (
            "the API server refuses a call",
            "The API server refused the same call, a read or a write, several times in a row: permissions are missing, or \
             an admission webhook, a policy or a quota forbids it. A run that can be rolled back is rolled back. The \
             reason has the call, the object and the server's answer; compare the permissions with deploy/rbac.yaml.",
        ),
        Code::PlanOutdated => (
            "a claim of the plan changed or vanished before the cut",
            "Between the plan and the cut a claim was deleted, replaced by one of the same name, bound to another \
             volume, or a class of the plan vanished. The run is undone rather than cut something else than what was \
             planned. Create the Backup again.",
        ),
        Code::Overtaken => (
            "a newer daemon has taken the run over",
            "The VolumeGroupSnapshot or the Backup carries a newer epoch than this daemon has: another daemon on the same \
             journal, or a copy of it, has claimed the run. This daemon writes nothing more to it. Make sure that \
             exactly one daemon runs for the journal.",
        ),
        Code::ContentLost => (
            "a member's content is gone although it was retained",
            "The VolumeSnapshotContent of a member vanished after it had been set to Retain, so another client removed it by \
             hand or by force. The receipt in the journal still has the handle of the snapshot. Check on the storage \
             whether the snapshot exists; `stillpoint journal show` prints the handle.",
        ),
        Code::PermissionsMissing => (
            "the API server does not grant a permission that a group needs",
            "Before a group begins Stillpoint has asked, by access reviews, for every permission that the cut, the release, an \
             undo and a rebuild use: at its start, after every call that was refused with 403, and after an hour. One that is missing would be found at the worst moment, so no group \
             begins without all of them. Nothing was changed in the cluster. The message names verb and resource: \
             apply deploy/rbac.yaml of the release that runs, or ask an administrator of the cluster to do it, and \
             create the Backup again under a new name.",
        ),
        Code::Abandoned => (
            "an operator abandoned the run before the pivot",
            "An operator ran `stillpoint groups abandon`; the journal has the author and the time. The run is rolled back \
             as after any failure, without another attempt: its group objects, snapshots and storage are freed, and \
             nothing of it is left. Create a Backup under a new name to cut the group again.",
        ),
        Code::AbandonedRetained => (
            "an operator abandoned the run: its storage is retained",
            "An operator ran `stillpoint groups abandon` while members were being released, where nothing can be rolled \
             back, or with `--keep-storage`. From then on nothing was deleted: every content that stands retains \
             its storage (what an undo had freed by then is gone; a run that could not retain all of it, and was ended \
             all the same by a second `--keep-storage`, says so), members that stand stay as they are, and a VolumeGroupSnapshot or VolumeGroupSnapshotContent of the run may still be there. Every \
             handle is in status.receipt of the GroupSnapshot, in the annotation stillpoint.dev/receipt of the \
             contents, and in the journal. To use the data, import a VolumeSnapshot from a member's snapshot handle. \
             To reclaim the storage, list what is left with `kubectl get volumegroupsnapshotcontents,\
             volumesnapshotcontents -l stillpoint.dev/run=RUN`, set spec.deletionPolicy of all of them to Delete, and \
             then delete the VolumeGroupSnapshot and the members. Where the group is gone, first import a VolumeGroupSnapshotContent and a \
             VolumeGroupSnapshot from the group handle and the snapshot handles of the receipt: a driver frees members \
             of a group only through their group.",
        ),
        Code::NotAskable => (
            "the run cannot be resumed or abandoned",
            "A run that has ended has nothing to resume or to abandon, a request that the daemon has not answered yet is not \
             overwritten, and a run that is being abandoned is not abandoned twice. Nothing was changed. \
             `stillpoint groups describe RUN` shows the state and the last answer. If a request stays unanswered, see \
             whether the daemon runs; it answers when it does.",
        ),
        Code::NotAtomic => (
            "the members were not cut at one moment",
            "By the creation times that the driver reports, the members of the group were cut further apart than \
             --max-skew allows, or the driver does not report them; and the daemon runs with --require-atomic. The \
             group was rolled back before anything was retained, and its storage freed. Use a driver that cuts all \
             volumes of a group at one moment. Without --require-atomic such a group is completed, with a warning and \
             the condition Atomic on its GroupSnapshot; --max-skew sets what is close enough.",
        ),
        Code::JournalCorrupt => (
            "the journal is damaged",
            "A record's hash, order or chain does not hold, or records are missing that are known to have existed. \
             Nothing is repaired silently: the daemon stops with the position. Copy the directory, then run \
             `stillpoint journal verify`, whose verdict is that of the daemon's next start. If the log is damaged or \
             short, `stillpoint journal rebuild --from-index` takes the records that it cannot read from the index \
             and renames the damaged log. Everything else needs a copy of the directory that is intact.",
        ),
        Code::JournalLocked => (
            "another process holds the journal",
            "A journal has one writer. The process that holds it is in owner.json inside the directory. Use the \
             running daemon, stop it, or name another directory with --journal.",
        ),
        Code::JournalNewer => (
            "the journal was written by a newer release",
            "The journal holds records or trees that this release does not know, and guessing at them could cut a \
             volume twice. Nothing was changed. Run the release that wrote it, or a newer one.",
        ),
        Code::JournalIo => (
            "the journal cannot be read or written",
            "A write or a sync of the journal failed: the disk is full, read-only or broken. No effect is performed \
             without a durable record, so the daemon stopped; the runs go on where they were when it starts again. Mend \
             the disk and start the daemon.",
        ),
        Code::JournalMissing => (
            "there is no journal",
            "The directory does not exist or holds no journal. Name the directory with --journal; the daemon makes a \
             new one on its first start.",
        ),
        Code::UnknownRun => (
            "the cluster has objects of a run that the journal does not know",
            "A Backup asks for a run whose members or contents exist already, labelled with its id, but the journal has no record of it: it is another journal than the one that began the run, or it was lost. The run is not begun again, because that would cut twice or undo what is retained; nothing is written, and the Backup stays in progress. Restore the journal, or stop the daemon and run `stillpoint journal rebuild --from-cluster`.",
        ),
        Code::JournalLost => (
            "the journal was lost while the group was not cut completely",
            "The journal was rebuilt from the cluster, and this run could not be told to have been cut: not every member carries the receipt, or it was being undone already. The group is undone and its storage freed. Run the Backup again, and keep the journal on a volume of its own.",
        ),
        Code::BindingRefused => (
            "the journal must not write to this cluster or namespace",
            "The ConfigMap stillpoint-journal in the daemon's namespace binds one journal to one cluster, and it names \
             another journal, a newer start than this journal has recorded, or this journal was bound to another \
             cluster before. Nothing was written. Two daemons with a journal each would free what the other one \
             keeps: run one daemon for a namespace. To give the place of another journal to this one, stop its \
             daemon and start with --take-over ID. An older copy of the journal is never bound again: start with the \
             newest copy, or rebuild the journal with `stillpoint journal rebuild --from-cluster`.",
        ),
        Code::ClusterWentBack => (
            "the cluster shows an older state than before",
            "The binding, or the versions of objects, are older than what this journal has seen: the etcd of the \
             cluster was restored from a snapshot, or the daemon was pointed to a copy of the cluster. The daemon \
             reads everything anew and goes on cutting and releasing; finished runs whose group objects are there \
             again are released again. Nothing is freed until an operator has checked the cluster and run \
             `stillpoint journal confirm-cluster`.",
        ),
        Code::VeleroNamespace => (
            "the namespace has a Velero server in it",
            "Stillpoint takes every Backup of its namespace, and a Velero server does the same: the Backups there are \
             Velero's. Run Stillpoint in a namespace of its own (--namespace), beside Velero.",
        ),
        Code::Unreachable => (
            "the API server cannot be reached",
            "No answer came from the API server of the kubeconfig. Runs are not lost by that: they go on when it \
             answers again. Check KUBECONFIG or --kubeconfig, the context and the network.",
        ),
        Code::Usage => (
            "the command line is wrong",
            "An argument, or a file that is named by one, is missing or cannot be read. `stillpoint help COMMAND` lists \
             the arguments.",
        ),
        Code::Internal => (
            "something happened that should be impossible",
            "Stillpoint met a state that its own rules exclude: a defect of ours. Nothing is done beyond what is \
             recorded. Please report it with the output of `stillpoint journal export` for the run; the journal is \
             enough to replay the decision.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_and_in_order() {
        let variants = include_str!("../../core/domain/problem.rs");
        let declared: Vec<u16> = variants
            .lines()
            .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok())
            .collect();
        let listed: Vec<u16> = CODES.iter().map(|code| *code as u16).collect();
        assert_eq!(listed, declared);
    }

    #[test]
    fn accepts_codes_in_any_common_spelling() {
        for text in ["SP0007", "sp0007", "SP7", "7", " SP0007 "] {
            assert_eq!(parse_code(text), Some(Code::SnapshotClass), "{text}");
        }
        for text in ["", "SP", "SP0000", "SP9999", "-7", "SPSP7"] {
            assert_eq!(parse_code(text), None, "{text}");
        }
    }

    #[test]
    fn errors_page_matches_error_codes() {
        let book = include_str!("../../../docs/errors.md");
        assert!(book == page(), "docs/errors.md is out of date: write `page()` into it");
    }

    #[test]
    fn titles_fit_a_line_and_paragraphs_explain() {
        for code in CODES {
            assert!(title(*code).len() < 80 && !title(*code).ends_with('.'), "{code}");
            assert!(explain(*code).len() > 120 && explain(*code).ends_with('.'), "{code}");
        }
    }
}
