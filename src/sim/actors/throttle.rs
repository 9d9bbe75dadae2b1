//! The client-side rate limit of a controller: a token bucket, as in client-go.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Tokens per second and bucket size. Without a limit it never waits.
pub(crate) struct Throttle {
    bucket: Option<Mutex<Bucket>>,
}

struct Bucket {
    qps: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Throttle {
    /// Creates a bucket with `qps` tokens per second and a size of twice as many (the controllers' own ratio:
    /// 5 and 10).
    pub(crate) fn new(qps: Option<f64>) -> Self {
        let bucket = qps.filter(|qps| *qps > 0.0).map(|qps| {
            let burst = (qps * 2.0).max(1.0);
            Mutex::new(Bucket { qps, burst, tokens: burst, filled_at: Instant::now() })
        });
        Self { bucket }
    }

    /// Takes a token, and waits until there is one. Callers are served in the order of their calls.
    pub(crate) async fn take(&self) {
        let Some(bucket) = &self.bucket else { return };
        let wait = bucket.lock().unwrap_or_else(PoisonError::into_inner).reserve();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

impl Bucket {
    fn reserve(&mut self) -> Duration {
        let now = Instant::now();
        let filled = now.duration_since(self.filled_at).as_secs_f64() * self.qps;
        self.tokens = (self.tokens + filled).min(self.burst) - 1.0;
        self.filled_at = now;
        Duration::from_secs_f64((-self.tokens / self.qps).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn allows_burst_of_ten_then_five_per_second() {
        let throttle = Throttle::new(Some(5.0));
        let start = Instant::now();
        for _ in 0..10 {
            throttle.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..5 {
            throttle.take().await;
        }
        assert_eq!(start.elapsed().as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_never_waits() {
        let throttle = Throttle::new(None);
        let start = Instant::now();
        for _ in 0..1000 {
            throttle.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
