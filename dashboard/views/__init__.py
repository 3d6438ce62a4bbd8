"""The pages, one module each, with a function `show` that draws it.

The folder is not called `pages`: Streamlit would serve each file of a folder of that name by itself, past the sign-in.
"""
