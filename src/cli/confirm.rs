//! The confirmation prompt before an apply. It uses the terminal itself, as sudo and ssh do, so a person sees and
//! answers it even if the standard streams are redirected.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::run::Answer;
use crate::engine::stop::Stop;
use crate::host::terminal::Terminal;
use crate::host::thread;
use crate::render::output;

/// How long the reader of a pipe may take to read what was printed before the prompt.
const READER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the reader may take to display what it has read.
const DISPLAY_DELAY: Duration = Duration::from_millis(100);

/// How long to wait for a signal after the end of the input: closing a terminal also sends SIGHUP.
const SIGNAL_TIMEOUT: Duration = Duration::from_millis(50);

/// Asks for `y` or `yes`. Nothing else is drawn until the question is answered.
pub async fn confirm(question: &str, stop: &Stop) -> Answer {
    let Ok(terminal) = Terminal::open().map(Arc::new) else { return Answer::NoTerminal };
    output::clear_activity();
    wait_for_readers().await;
    let question: Arc<str> = format!("\n{question} [y/N] ").into();
    let mut answer = tokio::select! {
        answer = ask(&terminal, &question) => answer,
        () = stop.asked() => Answer::Stopped,
    };
    if matches!(answer, Answer::None) && timeout(SIGNAL_TIMEOUT, stop.asked()).await.is_ok() {
        answer = Answer::Stopped;
    }
    if matches!(answer, Answer::None | Answer::Stopped) {
        // The line of the question was not ended by Enter.
        let ended = thread::blocking("terminal", move || terminal.write("\n"));
        drop(timeout(DISPLAY_DELAY, ended).await);
    }
    answer
}

/// Asks until there is an answer. Blocking terminal calls run in their own threads. A thread whose result is no longer needed
/// ends with the process.
async fn ask(terminal: &Arc<Terminal>, question: &Arc<str>) -> Answer {
    // When a stopped job continues (Ctrl-Z, fg), the shell has written below the question, so it is shown again.
    let mut continued = signal(SignalKind::from_raw(nix::libc::SIGCONT)).ok();
    let write = || {
        let (terminal, question) = (Arc::clone(terminal), Arc::clone(question));
        move || terminal.write(&question)
    };
    let first = write();
    let reading = Arc::clone(terminal);
    let reading = thread::blocking("terminal", move || first().and_then(|()| reading.read_line()));
    let mut line = std::pin::pin!(reading);
    loop {
        let continues = async {
            match &mut continued {
                Some(signals) => signals.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = &mut line => return match line {
                Ok(Ok(Some(line))) if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Answer::Yes,
                Ok(Ok(Some(_))) => Answer::No,
                _ => Answer::None,
            },
            _ = continues => drop(thread::blocking("terminal", write()).await),
        }
    }
}

/// Waits for the reader of a pipe, which may write to the same terminal (`apply | tee log`). The question has to come after its output.
async fn wait_for_readers() {
    if !output::is_piped() {
        return;
    }
    let begun = Instant::now();
    while output::is_unread() && begun.elapsed() < READER_TIMEOUT {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(DISPLAY_DELAY).await;
}
