//! The daemon is killed from outside, at a random moment.

use crate::invariants::{completed, uids};
use crate::process::wait;
use crate::stage::Stage;

const MEMBERS: usize = 3;
const KILLS: usize = 10;

/// The seed in `STILLPOINT_SEED`, else a new seed.
fn seed() -> u64 {
    let given = std::env::var("STILLPOINT_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("STILLPOINT_SEED is a number"))
}

#[test]
fn finishes_after_kill_at_any_moment() {
    let seed = seed();
    println!("STILLPOINT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..KILLS {
        // A moment is a number of calls of the daemon plus a short time. The daemon may have finished by
        // then.
        let (calls, micros) = (random.u64(1..=70), random.u64(0..15_000));
        let mut stage = Stage::with_group(MEMBERS);
        let mut daemon = stage.daemon(&[]);
        wait("calls of the daemon", || (stage.calls() >= calls || stage.ended().is_some()).then_some(()));
        std::thread::sleep(std::time::Duration::from_micros(micros));
        daemon.kill();
        let (state, known) = (stage.state(), uids(&stage.snapshots()));
        let mut daemon = stage.daemon(&[]);
        assert_eq!(
            stage.phase(&mut daemon),
            "Completed",
            "killed {micros} us after call {calls}, at {state}"
        );
        let uids = uids(&stage.snapshots());
        assert!(known.iter().all(|uid| uids.contains(uid)), "{known:?} at the kill, {uids:?} at the end");
        println!(
            "killed {micros:>5} us after call {calls:>2}, at {state:<12} {} writes in all",
            stage.writes()
        );
        completed(&stage, daemon, MEMBERS, false);
    }
}
