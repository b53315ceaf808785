//! System calls: three filters of seccomp(2) for each program, over all its threads.
//!
//! | a call | what becomes of it |
//! |---|---|
//! | that the program makes | it is made |
//! | that a part of it tries, and does without (`explain` runs nft, and looks at the wire) | refused: `EPERM` |
//! | that only somebody else would make | the process is killed |
//! | any other | refused as one that the kernel does not know (`ENOSYS`): the C library has another way then |
//!
//! Some calls are told apart by their arguments: the daemon makes sockets of two families, sets no options of packet sockets, and
//! does nothing but read and write elements of eBPF maps. `bind` is refused to it as a whole: the kernel does not show a filter
//! whether the socket is a packet socket, which would take packets of another interface then.

mod lists;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use self::lists::{Call, Lists};
use crate::Reach;

/// The programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `mcr run` and `mcr relay`.
    Daemon(Reach),
    /// `mcr-netd`.
    Keeper,
}

/// Why calls could not be given up.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system calls that are not needed can not be given up (seccomp): {0}; use a kernel with CONFIG_SECCOMP_FILTER, or --unconfined"
)]
pub struct CallsError(#[from] seccompiler::Error);

/// Gives up what the program does not need, in every thread that there is and will be.
///
/// # Errors
/// When the kernel has no filters, or a thread has one of its own. Some of the filters may be in force then.
pub fn give_up(program: Program) -> Result<(), CallsError> {
    for filter in filters(program)? {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(())
}

/// Whether this process has given up calls, as the kernel says (proc(5)).
#[must_use]
pub fn are_given_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter_map(|line| line.strip_prefix("Seccomp:")).any(|mode| mode.trim() == "2")
}

/// Of the errors that several filters answer with, the kernel takes that of the one that was added last
/// (`kernel/seccomp.c: seccomp_run_filters`).
fn filters(program: Program) -> Result<[BpfProgram; 3], CallsError> {
    let Lists { made, tried, never } = lists::of(program);
    Ok([
        filter(made, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)?,
        filter(tried, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?,
        filter(never, SeccompAction::Allow, SeccompAction::KillProcess)?,
    ])
}

fn filter(calls: Vec<Call>, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, CallsError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        let rules = rules.entry(call.number).or_default();
        match call.rule()? {
            Some(rule) => rules.push(rule),
            // No rule: whatever the arguments are.
            None => rules.clear(),
        }
    }
    let architecture = std::env::consts::ARCH.try_into().map_err(seccompiler::Error::Backend)?;
    let filter = SeccompFilter::new(rules, others, these, architecture).map_err(seccompiler::Error::Backend)?;
    Ok(BpfProgram::try_from(filter).map_err(seccompiler::Error::Backend)?)
}

impl Call {
    fn rule(&self) -> Result<Option<SeccompRule>, CallsError> {
        if self.conditions.is_empty() {
            return Ok(None);
        }
        let conditions = self.conditions.iter().map(|condition| {
            let (is, value) = match condition.is {
                lists::Is::Equal(value) => (SeccompCmpOp::Eq, value),
                lists::Is::Other(value) => (SeccompCmpOp::Ne, value),
                lists::Is::With(bits) => (SeccompCmpOp::MaskedEq(bits), bits),
                lists::Is::Without(bits) => (SeccompCmpOp::MaskedEq(bits), 0),
            };
            SeccompCondition::new(condition.argument, SeccompCmpArgLen::Dword, is, value)
        });
        let conditions = conditions.collect::<Result<_, _>>().map_err(seccompiler::Error::Backend)?;
        Ok(Some(SeccompRule::new(conditions).map_err(seccompiler::Error::Backend)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: [Program; 3] = [Program::Daemon(Reach::Host), Program::Daemon(Reach::Network), Program::Keeper];

    #[test]
    fn the_filters_are_programs_that_the_kernel_takes() {
        for program in PROGRAMS {
            for filter in filters(program).unwrap() {
                // `BPF_MAXINSNS`
                assert!(filter.len() < 4096, "{program:?}: {} instructions", filter.len());
            }
        }
    }

    #[test]
    fn a_call_is_on_one_list_as_a_whole() {
        for program in PROGRAMS {
            let Lists { made, tried, never } = lists::of(program);
            let whole = |calls: &[Call]| -> Vec<i64> {
                calls.iter().filter(|call| call.conditions.is_empty()).map(|call| call.number).collect()
            };
            let (made, tried, never) = (whole(&made), whole(&tried), whole(&never));
            for number in &made {
                assert!(!tried.contains(number) && !never.contains(number), "{program:?}: call {number}");
            }
        }
    }
}
