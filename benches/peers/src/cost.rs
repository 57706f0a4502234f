//! What a process costs: CPU time and memory, as Linux reports them.

use std::{fs, io, path::PathBuf};

/// Nanoseconds of a tick, which Linux counts by where it has nothing better.
const TICK: u64 = 10_000_000;

/// A process under observation.
pub struct Process(PathBuf);

impl Process {
    /// The process with this id.
    pub fn new(pid: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{pid}")))
    }

    /// Nanoseconds on a processor, of all threads there are. Exact to the nanosecond where the
    /// kernel keeps `schedstat`, else to a hundredth of a second.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn cpu(&self) -> io::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(self.0.join("task"))? {
            let path = task?.path();
            // A thread may end while it is looked at; what it did is then not counted.
            sum += match fs::read_to_string(path.join("schedstat")) {
                Ok(text) => number(text.split_whitespace().next()),
                Err(_) => fs::read_to_string(path.join("stat")).map_or(0, |s| ticks(&s)) * TICK,
            };
        }
        Ok(sum)
    }

    /// Bytes of memory that the process has for itself or shares, as far as they are in use.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn rss(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.0.join("smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        Ok(number(line.and_then(|line| line.split_whitespace().next())) * 1024)
    }
}

/// The ticks of user and system time in a `stat` line, which count from after the name.
fn ticks(stat: &str) -> u64 {
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    fields.split(' ').skip(11).take(2).map(|field| number(Some(field))).sum()
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let this = Process::new(std::process::id());
        assert!(this.rss().unwrap() > 100_000);
        let before = this.cpu().unwrap();
        let began = std::time::Instant::now();
        while this.cpu().unwrap() == before {
            assert!(began.elapsed().as_secs() < 10, "time stands still");
        }
    }

    #[test]
    fn a_name_with_spaces_does_not_shift_the_ticks() {
        assert_eq!(ticks("1 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20"), 42);
    }
}
