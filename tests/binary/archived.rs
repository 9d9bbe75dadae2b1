//! Archives on the command line: the journal stays one journal, wherever its archives are stored.

use std::fs;

use crate::process::{Ended, ended};
use crate::stage::Stage;

fn journal(stage: &Stage, args: &[&str]) -> Ended {
    let dir = stage.journal().display().to_string();
    ended(&[&["journal"], args, &["--journal", &dir]].concat())
}

#[test]
fn reads_archived_run_and_reports_missing_archive() {
    let mut stage = Stage::with_group(2);
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Completed");
    journal(&stage, &["archive"]).with(4);
    daemon.kill();
    let head = {
        let verified = journal(&stage, &["verify", "-o", "json"]).with(0).json();
        format!("{}:{}", verified["head"]["position"], verified["head"]["hash"].as_str().expect("a hash"))
    };
    let before = journal(&stage, &["export"]).with(0).stdout;
    let listed = journal(&stage, &["list"]).with(0).stdout;
    let replayed = journal(&stage, &["replay", "-o", "json"]).with(0).json();

    // Much of a short journal is the receipt, which is still needed.
    let stays = journal(&stage, &["archive", "-o", "json"]).with(0).json();
    assert_eq!(
        (&stays["archives"], &stays["stays"]["first"]),
        (&serde_json::json!([]), &1.into()),
        "{stays}"
    );
    let archived = journal(&stage, &["archive", "--all", "-o", "json"]).with(0).json();
    assert_eq!(archived["archives"].as_array().map(Vec::len), Some(1), "{archived}");
    // The streams of the group and of its Backup hold: their storage is not freed.
    assert_eq!(
        (&archived["archives"][0]["first"], &archived["archives"][0]["streams"]),
        (&1.into(), &0.into())
    );

    // The same records, followed by copies of three streams, with that of the binding, and the checkpoint.
    let after = journal(&stage, &["export"]).with(0).stdout;
    assert!(after.starts_with(&before));
    assert_eq!(after.lines().count(), before.lines().count() + 3 + 1);
    assert_eq!(archived["live"], 4);
    assert_eq!(journal(&stage, &["list"]).with(0).stdout, listed);
    assert_eq!(journal(&stage, &["replay", "-o", "json"]).with(0).json(), replayed);
    let shown = journal(&stage, &["show"]).with(0).stdout;
    assert!(shown.contains("went to archive/"), "{shown}");
    let verified = journal(&stage, &["verify", "--expect-head", &head, "-o", "json"]).with(0).json();
    assert_eq!(verified["records"].as_u64(), Some(after.lines().count() as u64));

    // Move the archive to another directory.
    let (archive, elsewhere) = (stage.journal().join("archive"), stage.dir.path().join("elsewhere"));
    let name = archived["archives"][0]["name"].as_str().expect("a name");
    fs::create_dir(&elsewhere).expect("created");
    fs::rename(archive.join(name), elsewhere.join(name)).expect("moved");
    let told = journal(&stage, &["verify", "-o", "json"]).with(3).json();
    assert_eq!((told["verdict"].as_str(), told["records"].as_u64()), (Some("needs-archive"), Some(4)));
    let reason = told["problem"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("are in archives that are not here"), "{reason}");
    // The checkpoint vouches for the last archived record, not for an earlier record.
    journal(&stage, &["verify", "--expect-head", &head]).with(3);
    let fifth: serde_json::Value =
        serde_json::from_str(before.lines().nth(4).expect("a record")).expect("an exported line");
    let fifth = format!("5:{}", fifth["hash"].as_str().expect("a hash"));
    journal(&stage, &["verify", "--expect-head", &fifth]).with(4);
    let given = elsewhere.display().to_string();
    for expected in [&head, &fifth] {
        journal(&stage, &["verify", "--expect-head", expected, "--archive", &given]).with(0);
    }
    assert_eq!(journal(&stage, &["export", "--archive", &given]).with(0).stdout, after);

    // A daemon starts without the archive, does not run the finished request again, and serves the records
    // that it has.
    let calls = stage.writes();
    let daemon = stage.daemon(&[]);
    crate::process::wait("the daemon to have the journal open", || {
        daemon.said().contains("serving").then_some(())
    });
    let asked = journal(&stage, &["verify", "--archive", &given, "-o", "json"]).with(0);
    assert!(asked.stderr.contains("asked the daemon"), "{}", asked.stderr);
    assert_eq!(stage.writes(), calls);
    drop(daemon);

    // Changed bytes are reported with the record.
    let path = elsewhere.join(name);
    let mut bytes = fs::read(&path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("written");
    let corrupt = journal(&stage, &["verify", "--archive", &given, "-o", "json"]).with(4).json();
    assert_eq!(corrupt["verdict"], "corrupt", "{corrupt}");
    assert!(corrupt["problem"]["position"].as_u64().is_some_and(|at| at > 1), "{corrupt}");
}

#[test]
fn daemon_archives_finished_runs_by_itself() {
    // A run that was rolled back holds nothing.
    let mut stage = Stage::with_group(1);
    let mut daemon = stage.daemon(&["--crash-at", "created/after-record"]);
    assert_eq!(daemon.end().1, Some(9), "{}", daemon.said());
    let shown = stage.list("/apis/stillpoint.dev/v1alpha1/namespaces/shop/groupsnapshots");
    let name = shown[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let kubeconfig = stage.kubeconfig().display().to_string();
    ended(&["groups", "abandon", &name, "--yes", "--timeout", "0", "--kubeconfig", &kubeconfig]).with(3);
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Failed");
    daemon.kill();
    let mut daemon = stage.daemon(&["--archive-records", "1"]);
    // If the daemon is killed during a write, one half of the journal may be one batch behind the other half.
    crate::process::wait("an archive and a binding", || {
        assert!(daemon.running(), "{:?}", daemon.end());
        let said = daemon.said();
        (said.contains("archived: records 1 to") && said.contains("bound journal=")).then_some(())
    });
    daemon.kill();
    journal(&stage, &["verify"]).with(0);
    assert_eq!(
        journal(&stage, &["list", "-o", "json"]).with(0).json()["streams"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn archives_unfinished_run_and_resumes_it() {
    let mut stage = Stage::with_group(2);
    let mut daemon = stage.daemon(&["--crash-at", "retained/after-record"]);
    assert_eq!(daemon.end().1, Some(9), "{}", daemon.said());
    let commands: [&[&str]; 4] =
        [&["list"], &["replay", "-o", "json"], &["explain", "3"], &["diff", "3", "4"]];
    let read = || commands.map(|command| journal(&stage, command).stdout);
    let before = read();
    assert!(before[0].contains("Retained"), "{}", before[0]);

    let archived = journal(&stage, &["archive", "--all", "-o", "json"]).with(0).json();
    let all_of_it = archived["archives"][0]["last"].as_u64();
    assert_eq!((archived["copied"].as_u64(), &archived["live"]), (all_of_it, &4.into()), "{archived}");
    assert_eq!(read(), before);
    journal(&stage, &["verify"]).with(0);

    // Move the archive to another directory: runs that have not ended are still complete, and the chain
    // begins later.
    let (archive, elsewhere) = (stage.journal().join("archive"), stage.dir.path().join("elsewhere"));
    let name = archived["archives"][0]["name"].as_str().expect("a name");
    fs::create_dir(&elsewhere).expect("created");
    fs::rename(archive.join(name), elsewhere.join(name)).expect("moved");
    assert_eq!(read(), before);
    assert_eq!(journal(&stage, &["export"]).with(0).stdout.lines().count(), 4);

    // The log alone has all that a start needs.
    fs::remove_dir_all(stage.journal().join("sled")).expect("removed");
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Completed");
    daemon.kill();
    let given = elsewhere.display().to_string();
    journal(&stage, &["verify", "--archive", &given]).with(0);
    let replayed = journal(&stage, &["replay", "-o", "json"]).with(0).json();
    assert_eq!(journal(&stage, &["replay", "--archive", &given, "-o", "json"]).with(0).json(), replayed);
    let runs = journal(&stage, &["list"]).with(0).stdout;
    assert!(runs.contains("Completed") && !runs.contains("unknown"), "{runs}");
}
