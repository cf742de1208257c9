//! Why a request is refused.

/// An HTTP status, and a sentence for the client's developer.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What was wrong. It quotes nothing of the request.
    pub reason: String,
}

impl Refusal {
    /// What the client sent is not what the protocol says.
    pub fn bad(reason: impl Into<String>) -> Self {
        Self { status: 400, reason: reason.into() }
    }

    /// The client may not send this.
    pub fn forbidden(reason: impl Into<String>) -> Self {
        Self { status: 403, reason: reason.into() }
    }

    /// More bytes than are taken.
    pub fn too_large(reason: impl Into<String>) -> Self {
        Self { status: 413, reason: reason.into() }
    }
}
