//! The verbs: what was typed, made into what it means, and done.

mod add;
mod carried;
mod check;
mod completions;
mod context;
mod discover;
mod doctor;
pub(crate) mod events;
mod explain;
mod history;
mod hold;
mod import;
pub(crate) mod list;
mod listen;
mod plan;
mod rejoin;
mod relay;
mod replay;
mod rm;
mod run;
mod send;
mod show;
mod stats;
mod status;
mod token;
mod top;
mod wait;

use crate::args::Verb;
use crate::failure::Failure;

/// Does what was asked.
pub(crate) fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Relay(args) => relay::relay(args),
        Verb::Run(args) => run::run(args),
        Verb::Add(args) => add::add(args),
        Verb::Rm(args) => rm::rm(args),
        Verb::Show(args) => show::show(args),
        Verb::List(args) => list::list(args),
        Verb::Stats(args) => stats::stats(args),
        Verb::Status(args) => status::status(args),
        Verb::Top(args) => top::top(args),
        Verb::Wait(args) => wait::wait(args),
        Verb::Token(verb) => token::token(verb),
        Verb::Context(verb) => context::context(verb),
        Verb::Events(args) => events::events(args),
        Verb::Check(args) => check::check(args),
        Verb::Plan(args) => plan::plan(args),
        Verb::Apply(args) => plan::apply(args),
        Verb::Confirm(args) => history::confirm(args),
        Verb::History(args) => history::history(args),
        Verb::Rollback(args) => history::rollback(args),
        Verb::Import(args) => import::import(args),
        Verb::Explain(args) => explain::explain(args),
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Discover(args) => discover::discover(args),
        Verb::Rejoin(args) => rejoin::rejoin(args),
        Verb::Send(args) => send::send(args),
        Verb::Listen(args) => listen::listen(args),
        Verb::Completions(args) => completions::completions(args),
    }
}
