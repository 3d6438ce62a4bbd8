"""The dashboard: its pages by Streamlit's own test driver, and the whole of it in a real browser."""
