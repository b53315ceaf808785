//! The end of a connection whose client may still be writing.
//!
//! A socket that is closed with bytes unread breaks the connection, and most clients whose write fails never look for
//! the answer that was sent before. So the sending side is closed first, and what still comes is read and thrown away
//! (RFC 9112 section 9.6), within bounds: the answer is given, and the seat is anybody's who needs it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::config;

/// So much is thrown away: the largest body that is taken anywhere.
const MOST_BYTES: usize = config::MAX_BYTES;
/// A client that sends nothing for so long has sent what it wanted to; a lost segment is sent again sooner.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it may go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends the sending side, and reads until the client ends its own or the bounds are reached.
pub(super) async fn part<I: AsyncRead + AsyncWrite + Unpin>(stream: &mut I) {
    let _ = timeout(PATIENCE, async {
        if stream.shutdown().await.is_ok() {
            discard(stream).await;
        }
    })
    .await;
}

async fn discard(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; 16 << 10];
    let mut discarded = 0;
    while discarded < MOST_BYTES {
        match timeout(PAUSE, stream.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => discarded += count,
            Ok(Ok(_) | Err(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::Instant;

    use super::*;

    /// The clock of the test jumps to the next timer when nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn who_has_nothing_more_to_say_is_not_waited_for() {
        let (_client, mut server) = duplex(1024);
        let start = Instant::now();
        part(&mut server).await;
        assert_eq!(start.elapsed().as_millis(), PAUSE.as_millis());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_and_on_is_cut_off_by_bytes_or_by_time() {
        for (pause, most_bytes, most_time) in
            [(Duration::ZERO, MOST_BYTES + (1 << 20), PATIENCE / 2), (PAUSE / 2, 1 << 20, PATIENCE + PAUSE)]
        {
            let (mut client, mut server) = duplex(64 << 10);
            let writing = tokio::spawn(async move {
                let mut taken = 0;
                while client.write_all(&[b'x'; 4096]).await.is_ok() {
                    taken += 4096;
                    tokio::time::sleep(pause).await;
                }
                taken
            });
            let start = Instant::now();
            part(&mut server).await;
            drop(server);
            assert!(start.elapsed() <= most_time, "{:?}", start.elapsed());
            let taken = writing.await.unwrap();
            assert!(taken <= most_bytes, "{taken}");
        }
    }
}
