// Whether dicts and lists hold the same objects as before: what is asked of a model before every pass. Python takes
// 10 µs for LeNet-5's 111 dicts, which is a sixth of the whole answer for one picture.
#include "bindings/held.h"

namespace nb = nanobind;

namespace convscope {
namespace {

bool holds(PyObject* dict, PyObject* keys_and_values) {
    const Py_ssize_t count = PyList_GET_SIZE(keys_and_values);
    if (2 * PyDict_Size(dict) != count) return false;
    PyObject *key, *value;
    for (Py_ssize_t place = 0, i = 0; PyDict_Next(dict, &place, &key, &value); i += 2)
        if (PyList_GET_ITEM(keys_and_values, i) != key || PyList_GET_ITEM(keys_and_values, i + 1) != value) return false;
    return true;
}

bool holds_items(PyObject* list, PyObject* items) {
    const Py_ssize_t count = PyList_GET_SIZE(items);
    if (PyList_GET_SIZE(list) != count) return false;
    for (Py_ssize_t i = 0; i < count; ++i)
        if (PyList_GET_ITEM(list, i) != PyList_GET_ITEM(items, i)) return false;
    return true;
}

bool unchanged(const nb::list& held, const nb::list& contents) {
    if (held.size() != contents.size()) throw nb::value_error("held and contents want the same length");
    for (std::size_t i = 0; i < held.size(); ++i) {
        PyObject* each = PyList_GET_ITEM(held.ptr(), static_cast<Py_ssize_t>(i));
        PyObject* before = PyList_GET_ITEM(contents.ptr(), static_cast<Py_ssize_t>(i));
        if (!PyList_CheckExact(before)) throw nb::type_error("contents wants lists");
        if (PyDict_Check(each)) {
            if (!holds(each, before)) return false;
        } else if (PyList_CheckExact(each)) {
            if (!holds_items(each, before)) return false;
        } else {
            throw nb::type_error("held wants dicts and lists");
        }
    }
    return true;
}

}  // namespace

void bind_held(nb::module_& m) {
    m.def("unchanged", &unchanged, nb::arg("held"), nb::arg("contents"),
          "Whether these dicts and lists hold the very objects that were noted of each in a list of its own: keys and "
          "values by turns of a dict, in the order in which they came, the items of a list.");
}

}  // namespace convscope
