//! `mcr token`

use mcr_model::grant::GrantSpec;
use mcr_model::token::{NewToken, Token, TokenSpec, Tokens};

use crate::args::{Format, TokenCreate, TokenList, TokenRevoke, TokenVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::screen::Screen;
use crate::view::table::{Align, Table};

/// Makes, lists or revokes tokens.
pub(crate) fn token(verb: TokenVerb) -> Result<(), Failure> {
    match verb {
        TokenVerb::Create(args) => create(args),
        TokenVerb::List(args) => list(args),
        TokenVerb::Revoke(args) => revoke(args),
    }
}

/// The secret alone goes to stdout, so that a script can keep it; what else there is to say goes to stderr.
fn create(args: TokenCreate) -> Result<(), Failure> {
    let TokenCreate { role, interfaces, groups, expires, note, daemon, output } = args;
    let spec = TokenSpec { note: note.unwrap_or_default(), role: role.into(), interfaces, groups, expires };
    let json = serde_json::to_string(&spec).map_err(|error| Failure::failed(error.to_string()))?;
    let answer = Client::new(daemon)?.post("tokens", json)?;
    let screen = Screen::stdout();
    if output.format == Format::Json {
        return screen.print(&answer.json());
    }
    let NewToken { secret, token } = answer.read()?;
    screen.print(&format!("{secret}\n"))?;
    eprintln!("token {} ({}) lasts until {}; it is not shown again", token.id, limits(&token.grant), token.expires);
    Ok(())
}

fn list(args: TokenList) -> Result<(), Failure> {
    let TokenList { daemon, output } = args;
    let answer = Client::new(daemon)?.get("tokens")?;
    let screen = Screen::stdout();
    if output.format == Format::Json {
        return screen.print(&answer.json());
    }
    let Tokens { tokens } = answer.read()?;
    if tokens.is_empty() {
        return screen.print("There are no tokens. Make one: mcr token create --role viewer\n");
    }
    let mut table = Table::new([
        ("ID", Align::Left),
        ("MAY", Align::Left),
        ("EXPIRES", Align::Left),
        ("MADE BY", Align::Left),
        ("NOTE", Align::Left),
    ]);
    for Token { id, note, grant, created: _, created_by, expires } in tokens {
        table.push([id.into(), limits(&grant).into(), expires.to_string().into(), created_by.into(), note.into()]);
    }
    screen.print(&table.render(screen.ink()))
}

fn revoke(args: TokenRevoke) -> Result<(), Failure> {
    let TokenRevoke { ids, daemon } = args;
    let client = Client::new(daemon)?;
    let failures: Vec<String> = ids
        .iter()
        .filter_map(|id| client.delete(&format!("tokens/{id}")).err())
        .map(|failure| failure.to_string())
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures.join("\nmcr: "))) }
}

/// The role, and what it is limited to.
fn limits(grant: &GrantSpec) -> String {
    let GrantSpec { role, interfaces, groups } = grant;
    let all = interfaces.iter().chain(groups).map(String::as_str).collect::<Vec<_>>().join(",");
    if all.is_empty() { role.to_string() } else { format!("{role} {all}") }
}
