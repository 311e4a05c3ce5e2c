"""Models in other programs' formats."""

from convscope.exporting.onnx_file import Exported as Exported
from convscope.exporting.onnx_file import export_onnx as export_onnx
