"""The stage sets of the notebooks: one folder each, used by that notebook, its tests and
the benchmarks alone.

In each folder ``runs`` computes, ``plots`` draws what runs gives, ``explorer`` puts sliders on
the two, and ``checks`` checks the exercises. A notebook imports one of them,
``from fltutor.lessons import NAME as lesson``. What two lessons need lies beside the folders.
For homework, use the rest of the package.
"""
