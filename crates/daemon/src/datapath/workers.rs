//! How many threads move the packets of an input.

use mcr_datapath::receive_queues;
use mcr_model::InterfaceName;

/// How many workers an input gets, each with a ring of its own; the keeper opens at most 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workers {
    /// One for each queue that its interface receives by, but not more than there are processors.
    #[default]
    Automatic,
    /// This many.
    Exactly(u8),
}

impl Workers {
    /// How many for this interface.
    pub(crate) fn at(self, interface: &InterfaceName) -> u8 {
        match self {
            Self::Exactly(count) => count,
            Self::Automatic => {
                // A driver that does not say has one queue, most likely; and one ring takes from all.
                let queues = receive_queues(interface.as_str()).unwrap_or(1);
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                u8::try_from(queues.min(processors).max(1)).unwrap_or(u8::MAX)
            }
        }
    }
}
