//! Events of the daemon: those that are kept, and those that come (server-sent events, HTML Living Standard section 9.2).

use http_body_util::BodyExt;
use hyper::{Method, header};

use super::{Answer, Client, PATIENCE};
use crate::failure::Failure;

impl Client {
    /// Gets the events that are kept, of `path`; only those after the one with that id.
    pub(crate) fn get_after(&self, path: &str, id: Option<&str>) -> Result<Answer, Failure> {
        let exchange = self.exchange(after(self.builder(Method::GET, path), id), None);
        self.answer(self.within(PATIENCE, exchange)?)
    }

    /// Gets events as they happen until the daemon ends or `handle` fails, beginning after the one with that id;
    /// `handle` gets the data of each.
    pub(crate) fn follow(
        &self,
        path: &str,
        id: Option<&str>,
        mut handle: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let answer = self.within(PATIENCE, self.open(after(self.builder(Method::GET, path), id), None))?;
        let (head, mut body) = answer.into_parts();
        if !head.status.is_success() {
            let body = self.within(PATIENCE, async {
                Ok(body.collect().await.map_err(|error| self.server.broken(&error))?.to_bytes())
            })?;
            return self.answer((head.status, body)).map(drop);
        }
        self.runtime.block_on(async {
            let mut lines = Lines::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.server.broken(&error))?;
                for line in frame.data_ref().into_iter().flat_map(|data| lines.push(data)) {
                    line.strip_prefix("data: ").map_or(Ok(()), &mut handle)?;
                }
            }
            Err(Failure::failed(format!("the daemon at {} has ended", self.server)))
        })
    }
}

fn after(request: hyper::http::request::Builder, id: Option<&str>) -> hyper::http::request::Builder {
    let any = request.header(header::ACCEPT, "text/event-stream");
    id.into_iter().fold(any, |request, id| request.header("last-event-id", id))
}

/// Cuts what comes in pieces into lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that end with this piece.
    fn push(&mut self, piece: &[u8]) -> Vec<String> {
        self.begun.extend_from_slice(piece);
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = "id: 1-0\nevent: missed\ndata: {\"a\": \"ä\"}\n\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let cut: Vec<String> = text.as_bytes().chunks(size).flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(cut, ["id: 1-0", "event: missed", "data: {\"a\": \"ä\"}", ""]);
        }
    }
}
