//! Defines the three profiles in which every engine scenario must hold.

use stillpoint::sim::Config;

/// Speed of the controllers, and age of their caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// No limits, fresh caches.
    Unlimited,
    /// Five calls per second, with bursts of ten: the defaults of the real controllers.
    Limited,
    /// Caches up to 400 ms old.
    Stale,
}

impl Profile {
    pub const ALL: [Profile; 3] = [Profile::Unlimited, Profile::Limited, Profile::Stale];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unlimited => "no limits",
            Self::Limited => "qps 5, burst 10",
            Self::Stale => "stale caches",
        }
    }

    pub fn config(self, seed: u64) -> Config {
        let fast = Config { seed, ..Config::default() };
        match self {
            Self::Unlimited => fast,
            Self::Limited => Config { controller_qps: Some(5.0), ..fast },
            Self::Stale => Config { cache_lag_ms: 400, ..fast },
        }
    }
}
