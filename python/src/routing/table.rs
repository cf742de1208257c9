//! All hot routes of a site. `matchit` finds the shape that a path has; the routes that this shape may stand for are then
//! tried in the order of the URLconf, so that the first one wins as it does in Django.

use std::collections::HashSet;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use super::policy::Header;
use super::segments::{Converter, Piece, Segments};

/// A route of the table.
struct Route {
    segments: Segments,
    parameters: Vec<(Py<PyString>, Converter)>,
    /// It gets a UUID as an object of Python's, and not as text.
    with_objects: bool,
    /// Further arguments.
    extra: Option<Py<PyDict>>,
    target: Arc<Target>,
}

/// What answers for a route.
pub struct Target {
    /// Python's `Route`.
    pub route: Py<PyAny>,
    /// The bytes that a body may have on the wire.
    pub limit: u64,
    pub direct: Option<Direct>,
}

/// A hot path that can be called without Python's `Route`.
#[derive(FromPyObject)]
pub struct Direct {
    /// The form to await.
    pub awaitable: Py<PyAny>,
    /// The methods that it takes; None for all.
    pub methods: Option<Vec<String>>,
    /// The bytes that a body may have when it is decoded.
    pub most: u64,
    /// Those that every answer gets.
    pub headers: Vec<Header>,
}

/// A route that a path fits, and the texts of its parameters.
pub struct Found<'p> {
    index: usize,
    texts: Vec<&'p str>,
}

/// The hot routes of a site.
///
/// It does not change once it is made, so any number of threads may ask it.
#[pyclass(frozen, module = "django_vcache._vcache")]
pub struct RouteTable {
    /// By shape, the routes that a path of it may fit.
    shapes: matchit::Router<Vec<usize>>,
    /// Routes whose shape the router cannot hold beside another's.
    others: Vec<usize>,
    routes: Vec<Route>,
}

/// A route as Python gives it: a `Row`.
#[derive(FromPyObject)]
struct Row {
    pieces: Vec<Given>,
    route: Py<PyAny>,
    extra: Py<PyDict>,
    limit: Option<u64>,
    with_objects: bool,
    direct: Option<Direct>,
}

/// A piece as Python gives it: text, or a converter's name and a parameter's.
#[derive(FromPyObject)]
enum Given {
    Text(String),
    Parameter(String, Py<PyString>),
}

#[pymethods]
impl RouteTable {
    #[new]
    fn new(py: Python<'_>, rows: Vec<Row>) -> PyResult<Self> {
        let routes = rows.into_iter().map(|row| Route::new(py, row)).collect::<PyResult<Vec<_>>>()?;
        let mut shapes = matchit::Router::new();
        let mut others = Vec::new();
        let mut seen = HashSet::new();
        for (index, route) in routes.iter().enumerate() {
            let shape = route.segments.shape();
            if !seen.insert(shape.clone()) {
                continue;
            }
            let fitting = routes
                .iter()
                .enumerate()
                .filter(|(_, other)| other.segments.may_overlap(&route.segments))
                .map(|(index, _)| index)
                .collect();
            if shapes.insert(shape, fitting).is_err() {
                others.push(index);
            }
        }
        // All routes of a shape that the router does not take, in the order of the URLconf.
        let left: HashSet<_> = others.iter().map(|&index| routes[index].segments.shape()).collect();
        let others =
            (0..routes.len()).filter(|&index| left.contains(&routes[index].segments.shape())).collect();
        Ok(Self { shapes, others, routes })
    }

    /// Why a route cannot be in a table; None if it can.
    #[staticmethod]
    fn problem(pieces: Vec<Given>) -> PyResult<Option<&'static str>> {
        let (pieces, _) = split(pieces)?;
        Ok(Segments::new(&pieces).err())
    }

    /// The route that a path fits, and the arguments for its target.
    ///
    /// `path` is decoded, from the slash behind the root path.
    fn find<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Option<(Py<PyAny>, Bound<'py, PyDict>)>> {
        let Some(found) = self.look(path) else { return Ok(None) };
        let parameters = self.parameters(py, &found)?;
        Ok(parameters.map(|parameters| (self.target(&found).route.clone_ref(py), parameters)))
    }

    fn __len__(&self) -> usize {
        self.routes.len()
    }
}

impl RouteTable {
    /// The route that a path fits. It does not need the GIL.
    pub fn look<'p>(&self, path: &'p str) -> Option<Found<'p>> {
        let fitting = self.shapes.at(path).map_or(&self.others, |shape| shape.value);
        fitting
            .iter()
            .find_map(|&index| Some(Found { index, texts: self.routes[index].segments.captures(path)? }))
    }

    /// What answers for a route that was found.
    pub fn target(&self, found: &Found<'_>) -> &Arc<Target> {
        &self.routes[found.index].target
    }

    /// The arguments for a route that was found, as Python's objects; none if a number is longer than 64 bits.
    ///
    /// # Errors
    /// What Python raised as it made them.
    pub fn parameters<'py>(
        &self,
        py: Python<'py>,
        found: &Found<'_>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let route = &self.routes[found.index];
        let parameters = PyDict::new(py);
        for ((name, converter), text) in route.parameters.iter().zip(&found.texts) {
            match converter {
                Converter::Int => match text.parse::<u64>() {
                    Ok(number) => parameters.set_item(name, number)?,
                    Err(_) => return Ok(None),
                },
                Converter::Uuid if route.with_objects => parameters.set_item(name, uuid(py, text)?)?,
                _ => parameters.set_item(name, text)?,
            }
        }
        if let Some(extra) = &route.extra {
            parameters.update(extra.bind(py).as_mapping())?;
        }
        Ok(Some(parameters))
    }
}

impl Route {
    fn new(py: Python<'_>, row: Row) -> PyResult<Self> {
        let (pieces, parameters) = split(row.pieces)?;
        let segments = Segments::new(&pieces).map_err(PyValueError::new_err)?;
        let target = Target { route: row.route, limit: row.limit.unwrap_or(u64::MAX), direct: row.direct };
        Ok(Self {
            segments,
            parameters,
            with_objects: row.with_objects,
            extra: (!row.extra.bind(py).is_empty()).then_some(row.extra),
            target: Arc::new(target),
        })
    }
}

/// The pieces, and the parameters among them.
#[allow(clippy::type_complexity)]
fn split(given: Vec<Given>) -> PyResult<(Vec<Piece>, Vec<(Py<PyString>, Converter)>)> {
    let mut parameters = Vec::new();
    let pieces = given
        .into_iter()
        .map(|piece| match piece {
            Given::Text(text) => Ok(Piece::Text(text)),
            Given::Parameter(converter, name) => {
                let converter = Converter::by_name(&converter).ok_or_else(|| {
                    PyValueError::new_err(format!("there is no path converter '{converter}'"))
                })?;
                parameters.push((name, converter));
                Ok(Piece::Parameter(converter))
            }
        })
        .collect::<PyResult<_>>()?;
    Ok((pieces, parameters))
}

fn uuid<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class =
        CLASS.get_or_try_init(py, || py.import("uuid")?.getattr(intern!(py, "UUID")).map(Bound::unbind))?;
    class.bind(py).call1((text,))
}
