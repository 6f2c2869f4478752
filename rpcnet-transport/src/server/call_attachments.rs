//! Attachments of a call: its headers, the values of its layers, and the metadata of its reply.

use std::{
    any::{Any, TypeId},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{Metadata, Priority, metadata::CallHeaders};

/// Headers of a call, the values that its layers have set, and the metadata of its reply. Most
/// calls have none of them. All tasks that serve the call share them.
#[derive(Default)]
pub(crate) struct CallAttachments {
    pub(crate) headers: CallHeaders,
    state: Mutex<ExtraState>,
}

#[derive(Default)]
struct ExtraState {
    /// One value of each type; a call has a few at most.
    extensions: Vec<(TypeId, Arc<dyn Any + Send + Sync>)>,
    reply_metadata: Option<Metadata>,
    /// Set where a layer has lowered that of the request after the context was made.
    priority: Option<Priority>,
}

impl CallAttachments {
    pub(crate) fn new(headers: CallHeaders) -> Self {
        Self {
            headers,
            state: Mutex::default(),
        }
    }

    /// Sets the value of a type, for the handler and for other layers.
    pub(crate) fn set_extension<T: Any + Send + Sync>(&self, value: T) {
        let value: Arc<dyn Any + Send + Sync> = Arc::new(value);
        let key = TypeId::of::<T>();
        let extensions = &mut self.state.lock().extensions;
        match extensions.iter_mut().find(|(of, _)| *of == key) {
            Some((_, known)) => *known = value,
            None => extensions.push((key, value)),
        }
    }

    /// Value of a type.
    pub(crate) fn extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let key = TypeId::of::<T>();
        let state = self.state.lock();
        let (_, value) = state.extensions.iter().find(|(of, _)| *of == key)?;
        Arc::clone(value).downcast().ok()
    }

    /// Sets the metadata of the reply, if the caller reads any.
    pub(crate) fn set_reply_metadata(&self, metadata: Metadata) {
        if self.headers.wants_reply_metadata {
            self.state.lock().reply_metadata = Some(metadata);
        }
    }

    /// Sets the priority of the call, which a layer has lowered.
    pub(crate) fn set_priority(&self, priority: Priority) {
        self.state.lock().priority = Some(priority);
    }

    /// Priority of the call, if a layer has lowered it.
    pub(crate) fn priority(&self) -> Option<Priority> {
        self.state.lock().priority
    }

    /// Headers of the reply, once it is there.
    pub(crate) fn take_reply_headers(&self) -> Option<Box<CallHeaders>> {
        let metadata = self.state.lock().reply_metadata.take()?;
        (!metadata.is_empty()).then(|| Box::new(CallHeaders::of_reply(metadata)))
    }
}

impl fmt::Debug for CallAttachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallAttachments")
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
