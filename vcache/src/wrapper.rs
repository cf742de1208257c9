//! What the wrapper types of hot paths have in common: each is its value, under another name.

/// `Deref`, `DerefMut` and `From` for a tuple struct around one public value.
macro_rules! transparent {
    ($name:ident) => {
        impl<T> ::std::ops::Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }

        impl<T> ::std::ops::DerefMut for $name<T> {
            fn deref_mut(&mut self) -> &mut T {
                &mut self.0
            }
        }

        impl<T> From<T> for $name<T> {
            fn from(value: T) -> Self {
                Self(value)
            }
        }
    };
}

pub(crate) use transparent;
