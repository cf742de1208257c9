//! Functions that return a coroutine, and are known to: `inspect.iscoroutinefunction`, and with it asgiref and the frameworks,
//! take them for what an `async def` makes. What is compiled cannot be marked so, and therefore this stands around it.
//!
//! A type in C, because its call costs 10 ns where that of a Python function around the compiled one would cost 100.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;

use pyo3::ffi::{self, PyObject, PyTypeObject};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyModule, PyType};

/// The object: what Python's header begins, and [`alloc`](ffi::PyType_GenericAlloc) fills with zeros.
#[repr(C)]
struct Function {
    base: PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    inner: *mut PyObject,
    dict: *mut PyObject,
    weakrefs: *mut PyObject,
}

/// Whether a function in a class is a method of its objects, as `def` makes it, or as a builtin function is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Binding {
    Function,
    Method,
}

/// Marks the function of a hot path that returns a coroutine, and writes down in the module's `__vcache_forms__` which
/// functions are forms of one hot path: a list of pairs, the blocking one and the one to await, each a name or `None`.
///
/// # Errors
/// `AttributeError` if there is none of such a name.
pub fn mark_functions(module: &Bound<'_, PyModule>, blocking: &[&str], awaitable: &[&str]) -> PyResult<()> {
    for name in awaitable {
        module.setattr(*name, marked(&module.getattr(*name)?, Binding::Function)?)?;
    }
    let name = intern!(module.py(), "__vcache_forms__");
    let forms = match module.getattr_opt(name)? {
        Some(forms) => forms,
        None => {
            let forms = PyList::empty(module.py()).into_any();
            module.setattr(name, &forms)?;
            forms
        }
    };
    forms.call_method1(intern!(module.py(), "append"), ((blocking.first(), awaitable.first()),))?;
    Ok(())
}

/// Marks the methods of a class that return a coroutine.
///
/// # Errors
/// `KeyError` if the class itself has none of such a name.
pub fn mark_methods(class: &Bound<'_, PyType>, names: &[&str]) -> PyResult<()> {
    let own = class.getattr("__dict__")?;
    for name in names {
        class.setattr(*name, marked(&own.get_item(*name)?, Binding::Method)?)?;
    }
    Ok(())
}

/// A function with a mark around `inner`, with the attributes that tell of it.
fn marked<'py>(inner: &Bound<'py, PyAny>, binding: Binding) -> PyResult<Bound<'py, PyAny>> {
    let py = inner.py();
    let class = class(py, binding)?;
    // SAFETY: the class is one of ours, so an object of it is a `Function`, full of zeros behind its header.
    let function = unsafe {
        let object = ffi::PyType_GenericAlloc(class.as_type_ptr(), 0);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let function = object.as_ptr().cast::<Function>();
        (*function).vectorcall = Some(call);
        (*function).inner = inner.clone().into_ptr();
        object
    };
    py.import("functools")?.call_method1("update_wrapper", (&function, inner))?;
    let signature = intern!(py, "__text_signature__");
    function.setattr(signature, inner.getattr(signature)?)?;
    mark(&function)?;
    Ok(function)
}

/// Sets what `iscoroutinefunction` looks for, in this version of Python.
fn mark(function: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = function.py();
    let inspect = py.import("inspect")?;
    if let Ok(mark) = inspect.getattr("markcoroutinefunction") {
        mark.call1((function,))?;
        return Ok(());
    }
    // Python 3.11 looks at the code of what has all that a function has.
    let scope = pyo3::types::PyDict::new(py);
    py.run(c"async def call(): pass", None, Some(&scope))?;
    let code = scope.get_item("call")?.map(|call| call.getattr("__code__")).transpose()?;
    function.setattr("__code__", code)?;
    function.setattr("__defaults__", py.None())?;
    function.setattr("__kwdefaults__", py.None())?;
    function.setattr("__annotations__", py.None())
}

fn class<'py>(py: Python<'py>, binding: Binding) -> PyResult<&'py Bound<'py, PyType>> {
    static FUNCTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let known = if binding == Binding::Method { &METHOD } else { &FUNCTION };
    known.get_or_try_init(py, || new_class(py, binding)).map(|class| class.bind(py))
}

fn new_class(py: Python<'_>, binding: Binding) -> PyResult<Py<PyType>> {
    let member = |name: &'static std::ffi::CStr, offset: usize| ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset.cast_signed(),
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    };
    // Python reads these for as long as the class lives.
    let members = Box::leak(Box::new([
        member(c"__dictoffset__", offset_of!(Function, dict)),
        member(c"__weaklistoffset__", offset_of!(Function, weakrefs)),
        member(c"__vectorcalloffset__", offset_of!(Function, vectorcall)),
        ffi::PyMemberDef::default(),
    ]));
    let attributes = Box::leak(Box::new([
        ffi::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(ffi::PyObject_GenericGetDict),
            set: Some(ffi::PyObject_GenericSetDict),
            doc: ptr::null(),
            closure: ptr::null_mut(),
        },
        ffi::PyGetSetDef::default(),
    ]));
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = vec![
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_call, PyVectorcall_Call as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, attributes.as_mut_ptr().cast()),
    ];
    let mut flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_HAVE_VECTORCALL
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let name = match binding {
        Binding::Function => c"django_vcache._vcache.coroutine_function",
        Binding::Method => {
            slots.push(slot(ffi::Py_tp_descr_get, get as *mut c_void));
            flags |= ffi::Py_TPFLAGS_METHOD_DESCRIPTOR;
            c"django_vcache._vcache.coroutine_method"
        }
    };
    slots.push(slot(0, ptr::null_mut()));
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: c_int::try_from(size_of::<Function>())?,
        itemsize: 0,
        flags: std::ffi::c_uint::try_from(flags)?,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is whole, its slots end with a zero, and its functions are for a `Function`.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    Ok(class.cast_into::<PyType>()?.unbind())
}

/// # Safety
/// Python's: the first is a [`Function`], and the arguments are as a vectorcall has them.
unsafe extern "C" fn call(
    function: *mut PyObject,
    arguments: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: handed on as they came.
    unsafe { ffi::PyObject_Vectorcall((*function.cast::<Function>()).inner, arguments, count, names) }
}

/// # Safety
/// Python's: the first is a [`Function`], the others are objects or null.
unsafe extern "C" fn get(function: *mut PyObject, object: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        if object.is_null() || object == ffi::Py_None() {
            return ffi::Py_NewRef(function);
        }
        PyMethod_New(function, object)
    }
}

unsafe extern "C" {
    /// A bound method. PyO3 does not declare it.
    fn PyMethod_New(function: *mut PyObject, object: *mut PyObject) -> *mut PyObject;
    /// A call with a tuple and a dict. PyO3 0.29 looks for it by a name that CPython 3.11 does not export.
    fn PyVectorcall_Call(
        callable: *mut PyObject,
        arguments: *mut PyObject,
        names: *mut PyObject,
    ) -> *mut PyObject;
}

/// # Safety
/// Python's: it is a [`Function`].
unsafe extern "C" fn repr(function: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyObject_Repr((*function.cast::<Function>()).inner) }
}

/// # Safety
/// Python's: the first is a [`Function`], and `visit` takes what it holds and `argument`.
unsafe extern "C" fn traverse(
    function: *mut PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let held = &*function.cast::<Function>();
        for object in [ffi::Py_TYPE(function).cast(), held.inner, held.dict] {
            if !object.is_null() {
                let stop = visit(object, argument);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

/// # Safety
/// Python's: it is a [`Function`].
unsafe extern "C" fn clear(function: *mut PyObject) -> c_int {
    // SAFETY: the caller's promise. `inner` stays: a call may still come, and a compiled function holds nothing of ours.
    unsafe { drop_reference(&raw mut (*function.cast::<Function>()).dict) };
    0
}

/// # Safety
/// Python's: it is a [`Function`] that nothing refers to.
unsafe extern "C" fn dealloc(function: *mut PyObject) {
    // SAFETY: the caller's promise. The class was counted by `PyType_GenericAlloc`.
    unsafe {
        ffi::PyObject_GC_UnTrack(function.cast());
        let own = function.cast::<Function>();
        if !(*own).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(function);
        }
        drop_reference(&raw mut (*own).dict);
        drop_reference(&raw mut (*own).inner);
        let class: *mut PyTypeObject = ffi::Py_TYPE(function);
        ffi::PyObject_GC_Del(function.cast());
        ffi::Py_DECREF(class.cast());
    }
}

/// # Safety
/// The place holds a reference, or null.
unsafe fn drop_reference(place: *mut *mut PyObject) {
    // SAFETY: the caller's promise; the place is empty before a destructor can come back to it.
    unsafe {
        let object = place.replace(ptr::null_mut());
        ffi::Py_XDECREF(object);
    }
}
