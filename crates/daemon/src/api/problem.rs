//! The kinds of problem documents: one list of every `type`, its status, its title and what it means.

use axum::http::StatusCode;

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    BadJson,
    BrokenBody,
    BodyTimedOut,
    TooLarge,
    NotJson,
    BadPath,
    BadQuery,
    NotFound,
    WrongMethod,
    WrongRelay,
    RelayNotFound,
    RelayExists,
    RelayOwned,
    RelayConflict,
    NoLease,
    WaitTimedOut,
    WrongFields,
    NoSuchToken,
    NotAdmitted,
    Forbidden,
    OutOfScope,
    WrongHost,
    WrongOrigin,
    StorageFull,
    StoreFailed,
    Busy,
    WrongConfig,
    ConfigConflict,
    OnTrial,
    Superseded,
    RevisionNotFound,
    NothingToConfirm,
    NoLook,
    Internal,
}

impl Kind {
    /// Every kind, in the order of the reference page.
    pub(super) const ALL: [Kind; 34] = [
        Self::BadJson,
        Self::BrokenBody,
        Self::BodyTimedOut,
        Self::TooLarge,
        Self::NotJson,
        Self::BadPath,
        Self::BadQuery,
        Self::NotFound,
        Self::WrongMethod,
        Self::WrongRelay,
        Self::RelayNotFound,
        Self::RelayExists,
        Self::RelayOwned,
        Self::RelayConflict,
        Self::NoLease,
        Self::WaitTimedOut,
        Self::WrongFields,
        Self::NoSuchToken,
        Self::NotAdmitted,
        Self::Forbidden,
        Self::OutOfScope,
        Self::WrongHost,
        Self::WrongOrigin,
        Self::StorageFull,
        Self::StoreFailed,
        Self::Busy,
        Self::WrongConfig,
        Self::ConfigConflict,
        Self::OnTrial,
        Self::Superseded,
        Self::RevisionNotFound,
        Self::NothingToConfirm,
        Self::NoLook,
        Self::Internal,
    ];

    /// Its `type`: a relative reference that names it.
    pub(super) fn reference(self) -> String {
        format!("/problems/{}", self.name())
    }

    /// The last part of its `type`.
    pub(super) fn name(self) -> &'static str {
        self.described().0
    }

    /// The status that it is answered with.
    pub(super) fn status(self) -> StatusCode {
        self.described().1
    }

    /// The kind, in words.
    pub(super) fn title(self) -> &'static str {
        self.described().2
    }

    /// When it comes, and what to do.
    pub(super) fn meaning(self) -> &'static str {
        self.described().3
    }

    /// After how many seconds the same request may be answered otherwise, where that is not for the client to change.
    pub(super) fn worth_another_try(self) -> Option<&'static str> {
        let known = [(Self::Busy, "1"), (Self::StorageFull, "30")];
        known.into_iter().find(|(kind, _)| *kind == self).map(|(_, seconds)| seconds)
    }

    fn described(self) -> (&'static str, StatusCode, &'static str, &'static str) {
        use StatusCode as Status;
        match self {
            Self::BadJson => (
                "bad-json",
                Status::BAD_REQUEST,
                "The body is not JSON",
                "the body is missing or no JSON; check it with `jq . FILE`",
            ),
            Self::BrokenBody => (
                "broken-body",
                Status::BAD_REQUEST,
                "The body did not arrive",
                "the connection broke while the body was sent; send it again",
            ),
            Self::BodyTimedOut => (
                "body-timed-out",
                Status::REQUEST_TIMEOUT,
                "The body took too long",
                "the body has to arrive within 10 s; send it at once",
            ),
            Self::TooLarge => (
                "too-large",
                Status::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "a body has at most 1 MiB, a configuration 8 MiB; send one relay at a time",
            ),
            Self::NotJson => (
                "not-json",
                Status::UNSUPPORTED_MEDIA_TYPE,
                "The body is not declared as JSON",
                "send JSON with `Content-Type: application/json`; a configuration may be `application/toml`, too",
            ),
            Self::BadPath => (
                "bad-path",
                Status::BAD_REQUEST,
                "The path is not understood",
                "the path is not UTF-8 when its %-codes are decoded; relay names are plain ASCII",
            ),
            Self::BadQuery => (
                "bad-query",
                Status::BAD_REQUEST,
                "The query or a header is not understood",
                "a parameter is unknown, or its value or that of a header can't be read; `field` names it",
            ),
            Self::NotFound => (
                "not-found",
                Status::NOT_FOUND,
                "There is nothing here",
                "the path is not part of the API; relays are at /api/v1/relays",
            ),
            Self::WrongMethod => (
                "wrong-method",
                Status::METHOD_NOT_ALLOWED,
                "The method is not possible here",
                "the Allow header names the methods that are",
            ),
            Self::WrongRelay => (
                "wrong-relay",
                Status::UNPROCESSABLE_ENTITY,
                "The relay is wrong",
                "a field has a wrong value; `field` names the first, `errors` all of them with what to do",
            ),
            Self::RelayNotFound => (
                "relay-not-found",
                Status::NOT_FOUND,
                "There is no such relay",
                "no relay has this name; GET /api/v1/relays lists those there are",
            ),
            Self::RelayExists => (
                "relay-exists",
                Status::CONFLICT,
                "The relay exists already",
                "the name is taken; choose another, or replace the relay with PUT",
            ),
            Self::RelayOwned => (
                "relay-owned",
                Status::CONFLICT,
                "The relay belongs to somebody else",
                "the relay belongs to the configuration file; change it there and reload",
            ),
            Self::RelayConflict => (
                "relay-conflict",
                Status::CONFLICT,
                "The relay does not fit beside the others",
                "another relay feeds the same output from the same input, or the relay would close a cycle",
            ),
            Self::NoLease => (
                "no-lease",
                Status::CONFLICT,
                "The relay has no lease",
                "the relay lives for good; PUT it with a lease to give it one, or leave it alone",
            ),
            Self::WaitTimedOut => (
                "wait-timed-out",
                Status::REQUEST_TIMEOUT,
                "The relay did not get there in time",
                "the time of the wait is over; `relay` says how the relay does",
            ),
            Self::WrongFields => (
                "wrong-fields",
                Status::UNPROCESSABLE_ENTITY,
                "Fields of the body are wrong",
                "`field` names the first, `errors` all of them with what to do",
            ),
            Self::NoSuchToken => (
                "token-not-found",
                Status::NOT_FOUND,
                "There is no such token",
                "no token has this id; GET /api/v1/tokens lists those there are",
            ),
            Self::NotAdmitted => (
                "not-admitted",
                Status::UNAUTHORIZED,
                "Nobody that this daemon knows",
                "show a token or a client certificate that is valid and not revoked",
            ),
            Self::Forbidden => (
                "forbidden",
                Status::FORBIDDEN,
                "Not allowed",
                "the endpoint takes a greater role than this access has, or access without limits",
            ),
            Self::OutOfScope => (
                "out-of-scope",
                Status::FORBIDDEN,
                "The relay is outside of what this access is limited to",
                "`field` names the interface or address that is outside",
            ),
            Self::WrongHost => (
                "wrong-host",
                Status::MISDIRECTED_REQUEST,
                "Not the name of this daemon",
                "the Host header has to be an address of the daemon, a name of its certificate, or one of its `hosts`",
            ),
            Self::WrongOrigin => (
                "wrong-origin",
                Status::FORBIDDEN,
                "Not a web page that may use this daemon",
                "the Origin header names a page that is not among the daemon's `origins`",
            ),
            Self::WrongConfig => (
                "wrong-config",
                Status::UNPROCESSABLE_ENTITY,
                "The configuration is wrong",
                "something in the configuration is wrong; `errors` has every mistake with what to do",
            ),
            Self::ConfigConflict => (
                "config-conflict",
                Status::CONFLICT,
                "The configuration does not fit",
                "its relays do not fit beside each other or beside those of the API; `detail` has every one that does \
                 not",
            ),
            Self::OnTrial => (
                "on-trial",
                Status::CONFLICT,
                "A configuration waits for its confirmation",
                "confirm the configuration in force, or go back, before another one is applied",
            ),
            Self::Superseded => (
                "superseded",
                Status::PRECONDITION_FAILED,
                "Another one is in force",
                "somebody changed the configuration, or the relay, since it was looked at; look again, then try again",
            ),
            Self::RevisionNotFound => (
                "revision-not-found",
                Status::NOT_FOUND,
                "There is no such revision",
                "no revision has this number, or it is too old to be kept; GET /api/v1/config/revisions lists them",
            ),
            Self::NothingToConfirm => (
                "nothing-to-confirm",
                Status::CONFLICT,
                "Nothing waits for a confirmation",
                "the configuration in force is not on trial, or not any more",
            ),
            Self::StorageFull => (
                "storage-full",
                Status::INSUFFICIENT_STORAGE,
                "There is no room to store it",
                "the disk of the daemon's state is full; make room and try again",
            ),
            Self::StoreFailed => (
                "store-failed",
                Status::INTERNAL_SERVER_ERROR,
                "It can not be stored",
                "the store of the daemon can not be used; `detail` says why",
            ),
            Self::Busy => (
                "busy",
                Status::SERVICE_UNAVAILABLE,
                "Too many requests at once",
                "this user has as many requests in work as the daemon takes; try again when one is answered",
            ),
            Self::NoLook => (
                "no-look",
                Status::CONFLICT,
                "The interface can not be looked at",
                "the keeper's policy does not allow it as an input, or the keeper is gone; the detail says what to do",
            ),
            Self::Internal => (
                "internal",
                Status::INTERNAL_SERVER_ERROR,
                "The daemon failed",
                "a bug of the daemon; please report it with the log",
            ),
        }
    }
}
