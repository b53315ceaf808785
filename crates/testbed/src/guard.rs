//! What is left of a test that was killed goes too: `Drop` does not run after SIGKILL, Ctrl-C or an abort.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Waits for the end of its input, which comes when the process that holds the other end of the pipe ends, however it does. Then
/// removes that process's namespaces and ends what still runs in them; only names that begin with `$1` are touched.
const SCRIPT: &str = r#"
while read -r _; do :; done
for path in /run/netns/"$1"*; do
    [ -e "$path" ] || continue
    name=${path##*/}
    for pid in $(ip netns pids "$name"); do kill -KILL "$pid"; done
    ip netns delete "$name"
done
"#;

/// Starts the guard of this process, once, before its first namespace is made. All its namespaces have names that begin with
/// `prefix`.
#[track_caller]
pub(crate) fn watch(prefix: &str) {
    // Never dropped nor waited for: its standard input is to close when the process ends, and not before.
    static GUARD: OnceLock<Child> = OnceLock::new();
    GUARD.get_or_init(|| {
        Command::new("sh")
            .args(["-c", SCRIPT, "guard", prefix])
            .stdin(Stdio::piped())
            // Open pipes to the test runner would make it wait for the guard.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A runner or a terminal kills the whole group of a test; the guard has to outlive that.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `sh`, which guards namespaces: {error}"))
    });
}
