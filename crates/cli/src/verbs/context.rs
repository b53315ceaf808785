//! `mcr context`

use crate::args::{ContextSet, ContextVerb};
use crate::client::choice::{Context, Contexts, keep_token, no_such_context};
use crate::failure::Failure;
use crate::view::screen::Screen;
use crate::view::table::{Align, Table};

/// Lists, sets, chooses or removes contexts.
pub(crate) fn context(verb: ContextVerb) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    match verb {
        ContextVerb::List => return list(&contexts),
        ContextVerb::Set(args) => set(&mut contexts, args)?,
        ContextVerb::Use { name } => {
            if !contexts.context.contains_key(&name) {
                return Err(no_such_context(&name));
            }
            contexts.current = Some(name);
        }
        ContextVerb::None => contexts.current = None,
        ContextVerb::Rm { name } => {
            contexts.context.remove(&name).ok_or_else(|| no_such_context(&name))?;
            contexts.current.take_if(|current| *current == name);
        }
    }
    contexts.save()
}

fn list(contexts: &Contexts) -> Result<(), Failure> {
    let screen = Screen::stdout();
    if contexts.context.is_empty() {
        return screen.print("There are no contexts. Make one: mcr context set NAME --server https://HOST:PORT\n");
    }
    let mut table = Table::new([("", Align::Left), ("NAME", Align::Left), ("SERVER", Align::Left)]);
    for (name, context) in &contexts.context {
        let mark = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
        table.push([mark.into(), name.as_str().into(), context.server.as_str().into()]);
    }
    screen.print(&table.render(screen.ink()))
}

/// The first one that is made is the current one.
fn set(contexts: &mut Contexts, args: ContextSet) -> Result<(), Failure> {
    let ContextSet { name, server, cacert, token, token_file, cert, key } = args;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_name) {
        return Err(Failure::usage(format!(
            "{name:?} is no name for a context; use letters, digits, '-', '_' and '.'"
        )));
    }
    let absolute = |path: Option<std::path::PathBuf>| {
        let path = path.map(std::path::absolute).transpose();
        path.map_err(|error| Failure::failed(format!("cannot tell where this is: {error}")))
    };
    let token_file = match token {
        Some(token) => Some(keep_token(&name, &token)?),
        None => absolute(token_file)?,
    };
    let (cacert, cert, key) = (absolute(cacert)?, absolute(cert)?, absolute(key)?);
    contexts.current.get_or_insert_with(|| name.clone());
    contexts.context.insert(name, Context { server, cacert, token_file, cert, key });
    Ok(())
}
