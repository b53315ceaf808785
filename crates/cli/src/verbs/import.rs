//! `mcr import`

use crate::args::Import;
use crate::failure::Failure;
use crate::import::{Draft, smcroute, socat};
use crate::view::screen::Screen;

/// Prints the configuration that does what another tool's does.
pub(crate) fn import(args: Import) -> Result<(), Failure> {
    let Import { file, ports, socat: lines, input, output } = args;
    let draft = match file {
        Some(file) => {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Failure::failed(format!("cannot read {name}: {error}; check the path")))?;
            smcroute::import(&name, &text, &ports)
        }
        None => {
            let interfaces = socat::Interfaces { input: input.as_deref(), output: output.as_deref() };
            let mut draft = Draft::default();
            for line in &lines {
                socat::import(line, interfaces, &mut draft).map_err(Failure::failed)?;
            }
            draft
        }
    };
    Screen::stdout().print(&draft.text())?;
    if draft.relays() == 0 {
        return Err(Failure::failed("no relay could be made of it; the comments say why"));
    }
    Ok(())
}
