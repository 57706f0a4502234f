//! `tollgate top`: a live table of what passes through a proxy, sorted by what hurts.

mod address;
pub mod certificates;
pub mod choice;
mod columns;
mod layout;
pub mod live;
pub mod notices;
pub mod now;
pub mod poll;
pub mod pools;
pub mod screen;
pub mod sessions;
pub mod table;

pub use address::{AdminAddress, TlsFiles};
pub use table::{Row, Series, render};

use anyhow::{Context as _, bail};
use choice::{View, ViewOptions};
use layout::{clip, loud, wrapped};
use poll::Snapshot;
use screen::{Screen, plain, terminal_width};
use std::{io::Write as _, time::Duration};
use table::rates;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// What to show, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the proxy's admin interface is.
    pub admin: AdminAddress,
    /// How long one table counts. At least a tenth of a second.
    pub interval: Duration,
    /// Show this many tables, then end; `None`: until stopped.
    pub tables: Option<u64>,
    /// What the first line calls it.
    pub title: String,
    /// What is shown at first, and in which order.
    pub choice: ViewOptions,
    /// More text above the table.
    pub story: Option<Story>,
}

/// The text of a demonstration, and the policy that the key `l` switches.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// The policy's name.
    pub policy: &'static str,
    /// Lines for people, given where the admin interface is.
    pub lines: fn(admin: &str, &Snapshot) -> Vec<String>,
}

/// Shows the operations of the proxy whose admin interface is at `admin`, in a table
/// that is redrawn each `interval`; with `once` a single one. Ends with `q` and with Ctrl-C.
/// Fails if the admin interface does not answer and `once` is given or there is no terminal.
pub async fn top(
    admin: AdminAddress,
    once: bool,
    interval: Duration,
    choice: ViewOptions,
) -> anyhow::Result<()> {
    let title = format!("tollgate top  {}", values::hide(&admin.to_string()));
    let (tables, story) = (once.then_some(1), None);
    let options = Options { admin, interval, tables, title, choice, story };
    show(options, CancellationToken::new()).await
}

/// Shows tables until `until` is cancelled. `q` and Ctrl-C cancel it.
pub async fn show(options: Options, until: CancellationToken) -> anyhow::Result<()> {
    let (keys, choice) = watch::channel(options.choice);
    let screen = match options.tables {
        None => Screen::open(&until, keys.clone()),
        Some(_) => None,
    };
    let live = Live { options, screen, choice, _keys: keys };
    tokio::select! {
        result = live.run() => result,
        () = until.cancelled() => Ok(()),
        () = interrupted() => { until.cancel(); Ok(()) }
    }
}

/// Tables that are being shown.
struct Live {
    options: Options,
    screen: Option<Screen>,
    choice: watch::Receiver<ViewOptions>,
    /// Kept open, so that waiting for keys is pending where there is no keyboard.
    _keys: watch::Sender<ViewOptions>,
}

impl Live {
    async fn run(mut self) -> anyhow::Result<()> {
        let interval = self.options.interval.max(Duration::from_millis(100));
        let mut before = None;
        let mut now = self.ask().await;
        let mut shown = 0;
        while self.options.tables.is_none_or(|tables| shown < tables) {
            match &now {
                // Without a terminal there is no user to act on it.
                Err(problem) if self.screen.is_none() => {
                    bail!("no answer from {}: {problem:#}", self.options.admin)
                }
                _ if self.screen.is_some() => self.redraw(before.as_ref(), &now)?,
                _ => {}
            }
            self.wait(Instant::now() + interval, before.as_ref(), &now).await?;
            if let Ok(earlier) = now {
                before = Some(earlier);
            }
            now = self.ask().await;
            if self.screen.is_none() && now.is_ok() {
                self.redraw(before.as_ref(), &now)?;
                shown += 1;
            }
        }
        Ok(())
    }

    async fn ask(&self) -> anyhow::Result<Snapshot> {
        let view = self.choice.borrow().view;
        let callsites = self.screen.is_some() || view == View::CallSites;
        poll::snapshot(&self.options.admin, callsites, view).await
    }

    /// Waits until then, and redraws after each key.
    async fn wait(
        &mut self,
        until: Instant,
        before: Option<&Snapshot>,
        now: &anyhow::Result<Snapshot>,
    ) -> anyhow::Result<()> {
        loop {
            let was = self.choice.borrow_and_update().switched;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                changed = self.choice.changed() => changed.context("the keyboard reader has ended")?,
            }
            if self.choice.borrow().switched != was {
                self.switch(now).await;
            }
            self.redraw(before, now)?;
        }
    }

    /// Switches the policy of the story.
    async fn switch(&self, now: &anyhow::Result<Snapshot>) {
        let (Some(story), Ok(now)) = (&self.options.story, now) else { return };
        let policy = now.policies.iter().find(|it| it.name == story.policy);
        let on = policy.is_some_and(|it| !it.enabled);
        // Whether it worked is in the next table.
        let _ = poll::switch(&self.options.admin, story.policy, on).await;
    }

    fn redraw(
        &mut self,
        before: Option<&Snapshot>,
        now: &anyhow::Result<Snapshot>,
    ) -> anyhow::Result<()> {
        let (choice, width) = (*self.choice.borrow(), terminal_width());
        let screen = self.screen.as_ref();
        let (keys, colour) = (screen.is_some(), screen.is_some_and(Screen::colour));
        let page = match (before, now) {
            (_, Err(problem)) => absent(&self.options, problem),
            // At first there is nothing to compare with, and a screen that waits says so.
            (None, Ok(_)) => waiting(&self.options),
            (Some(before), Ok(now)) => {
                page(&self.options, choice, (before, now), keys, (width, colour))
            }
        };
        draw(&mut self.screen, &page)
    }
}

/// Everything that is shown of what happened between two times.
fn page(
    options: &Options,
    choice: ViewOptions,
    (before, now): (&Snapshot, &Snapshot),
    keys: bool,
    (width, colour): (usize, bool),
) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let all = rates(&before.operations, &now.operations, seconds);
    let mut rows = match choice.view {
        View::CallSites => rates(&before.callsites, &now.callsites, seconds),
        View::Shapes => match (&before.shapes, &now.shapes) {
            (Some(before), Some(now)) => rates(before, now, seconds),
            // They were asked for once, or not at all.
            _ => Vec::new(),
        },
        _ => all.clone(),
    };
    choice.sort.apply(&mut rows);
    let (lists, shape) = (&now.lists, (width, colour));
    let table = match choice.view {
        View::Pools => pools::render(&now.pools, width, colour),
        View::Now => now::render(&now.clusters, &lists.listeners, shape),
        View::Sessions => sessions::render(&lists.sessions, shape),
        View::Tls => certificates::render(&lists.certificates, shape),
        View::Live => live::render(&lists.live, shape),
        view => render(&rows, view, width, colour),
    };
    let mut lines = vec![headline(&options.title, &all, width)];
    if keys {
        lines.extend(choice.keys().iter().map(|line| clip(line, width)));
    }
    lines.push(String::new());
    let mut notices = notices::clusters(&now.clusters);
    notices.extend(pools::notices(&now.pools));
    notices.extend(certificates::notices(&lists.certificates));
    notices.extend(notices::refusals(&before.policies, &now.policies, seconds));
    let notices = notices.iter().map(|line| loud(&clip(line, width), colour));
    let before_notices = lines.len();
    lines.extend(notices);
    if let Some(story) = &options.story {
        let told = (story.lines)(&options.admin.to_string(), now);
        lines.extend(told.iter().flat_map(|line| wrapped(line, width)));
    }
    if lines.len() > before_notices {
        lines.push(String::new());
    }
    lines.push(table);
    if !keys && choice.view.counts() {
        lines.push(clip("* since the proxy began; everything else since the table before", width));
    }
    lines.join("\n")
}

/// Draws a page on the screen or, without one, writes it.
fn draw(screen: &mut Option<Screen>, page: &str) -> anyhow::Result<()> {
    match screen {
        Some(screen) => screen.draw(page),
        None => plain(page),
    }
    .context("the terminal is gone")
}

fn absent(options: &Options, problem: &anyhow::Error) -> String {
    let line = format!("no answer from {}: {problem:#}; trying again", options.admin);
    format!("{}\n\n{}", options.title, clip(&values::hide(&line), terminal_width()))
}

fn waiting(options: &Options) -> String {
    format!("{}\n\ncounting…", options.title)
}

/// The first line: everything together.
fn headline(title: &str, rows: &[Row], width: usize) -> String {
    // Not `sum`, which gives -0 for no rows at all.
    let (operations, errors) = rows.iter().fold((0.0, 0.0), |(operations, errors), row| {
        (operations + row.operations, errors + row.errors)
    });
    let share = if operations > 0.0 { 100.0 * errors / operations } else { 0.0 };
    let numbers = format!("   {operations:.0} ops/s   {share:.1}% errors");
    // The numbers are what people look for, so they are the last to go.
    let room = width.saturating_sub(numbers.chars().count());
    clip(&format!("{}{numbers}", clip(title, room)), width)
}

/// Ctrl-C, or the signal that asks to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending().await },
        () = terminated => {}
    }
}

/// Writes what passed through a proxy in all, as a plain table.
pub async fn summary(admin: &AdminAddress, title: &str, elapsed: Duration) -> anyhow::Result<()> {
    let now = poll::operations(admin).await?;
    let rows = rates(&[], &now, elapsed.as_secs_f64());
    let operations: u64 = now.iter().map(|series| series.count).sum();
    let errors: u64 = now.iter().map(|series| series.errors).sum();
    let mut out = std::io::stdout().lock();
    let seconds = elapsed.as_secs_f64();
    writeln!(out, "{title}: {operations} operations in {seconds:.1} s, {errors} errors\n")?;
    writeln!(out, "{}", render(&rows, View::Operations, terminal_width(), false))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_table_of_a_proxy_that_is_away_is_an_error_that_names_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        drop(listener);
        let at = AdminAddress::plain(&admin);
        let shown = top(at, true, Duration::from_secs(1), ViewOptions::default()).await;
        let error = shown.unwrap_err();
        assert!(error.to_string().starts_with(&format!("no answer from {admin}: ")), "{error}");
    }

    #[tokio::test]
    async fn tables_end_on_a_signal_without_a_proxy() {
        let until = CancellationToken::new();
        until.cancel();
        let options = Options {
            admin: AdminAddress::plain("127.0.0.1:1"),
            interval: Duration::from_secs(3600),
            tables: None,
            title: String::new(),
            choice: ViewOptions::default(),
            story: None,
        };
        show(options, until).await.unwrap();
    }

    #[test]
    fn the_first_line_sums_up() {
        let row = Row { operations: 50.0, errors: 1.0, ..Row::default() };
        let line = headline("top", &[row.clone(), row], 80);
        assert_eq!(line, "top   100 ops/s   2.0% errors");
        assert_eq!(headline("top", &[], 80), "top   0 ops/s   0.0% errors");
    }

    #[test]
    fn the_first_line_keeps_its_numbers_where_there_is_little_room() {
        let row = Row { operations: 50.0, errors: 1.0, ..Row::default() };
        let line = headline("tollgate top  127.0.0.1:9901", &[row], 40);
        assert_eq!(line, "tollgate top  …   50 ops/s   2.0% errors");
        for width in 0..60 {
            assert!(headline("a title", &[], width).chars().count() <= width, "{width}");
        }
    }
}
